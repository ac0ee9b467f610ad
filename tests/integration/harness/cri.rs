//! CRI calls over the real socket. Blocking, so that tests read from top to bottom.

use super::poll::DEADLINE;
use super::sent;
use anyhow::{Context as _, Result};
use berth::cri::proto;
use futures::TryStreamExt as _;
use hyper_util::rt::TokioIo;
use proto::image_service_client::ImageServiceClient;
use proto::runtime_service_client::RuntimeServiceClient;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

/// What a server may answer at most.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// A call whose answer is awaited later; aborting it is what a client does that goes away.
pub(crate) type Begun<T> = tokio::task::JoinHandle<Result<tonic::Response<T>, Status>>;

/// Events as they come.
pub(crate) struct Events<'a> {
    cri: &'a Cri,
    stream: tonic::Streaming<proto::ContainerEventResponse>,
}

impl Events<'_> {
    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// What the runtime says, or that nothing comes.
    pub(crate) fn next(&mut self) -> Result<Option<proto::ContainerEventResponse>, Status> {
        self.cri.wait(async { self.stream.message().await.map(tonic::Response::new) })
    }
}

/// A connection to a runtime.
pub(crate) struct Cri {
    tokio: tokio::runtime::Runtime,
    channel: Channel,
}

impl Cri {
    /// Connects when it is first used, and again when the daemon was restarted.
    ///
    /// # Errors
    /// No runtime could be made.
    pub(crate) fn new(socket: &Path) -> Result<Self> {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("make a tokio runtime")?;
        let socket: PathBuf = socket.into();
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = tokio.block_on(async { endpoint.connect_with_connector_lazy(connect) });
        Ok(Self { tokio, channel })
    }

    /// A client for calls that need more than the methods below.
    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The same for images.
    pub(crate) fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The connection itself.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Starts work that makes calls of its own.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.tokio.spawn(work)
    }

    /// Waits for such work.
    ///
    /// # Errors
    /// It panicked.
    pub(crate) fn join<T>(&self, work: tokio::task::JoinHandle<T>) -> Result<T> {
        Ok(self.tokio.block_on(work)?)
    }

    /// Does work that is not a call.
    ///
    /// # Errors
    /// Its own, or that it took too long.
    pub(crate) fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.tokio.block_on(async {
            let done = tokio::time::timeout(DEADLINE, work).await;
            done.context("the test's own deadline has passed")?
        })
    }

    /// Waits for a call.
    ///
    /// # Errors
    /// The call's own status, or that it took too long.
    pub(crate) fn wait<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        self.tokio.block_on(async {
            match tokio::time::timeout(DEADLINE, call).await {
                Ok(answer) => answer.map(tonic::Response::into_inner),
                Err(_) => Err(Status::deadline_exceeded(format!(
                    "the test's own deadline of {DEADLINE:?} has passed"
                ))),
            }
        })
    }

    /// GetContainerEvents: everything from now on.
    ///
    /// # Errors
    /// What the runtime says.
    pub(crate) fn events(&self) -> Result<Events<'_>, Status> {
        let mut client = self.runtime();
        let request = proto::GetEventsRequest {};
        let stream = self.wait(async move { client.get_container_events(request).await })?;
        Ok(Events { cri: self, stream })
    }

    /// Starts a call and does not wait for it.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>> + Send + 'static,
    ) -> Begun<T> {
        self.tokio.spawn(call)
    }

    /// Waits for a call that was begun.
    ///
    /// # Errors
    /// The call's own status.
    pub(crate) fn finish<T: Send + 'static>(&self, call: Begun<T>) -> Result<T, Status> {
        self.wait(async move { call.await.map_err(|e| Status::internal(e.to_string()))? })
    }
}

macro_rules! verbs {
    ($client:ident: $($name:ident($request:ident) -> $response:ident;)*) => {
        impl Cri {
            $(
                /// The CRI call of this name.
                ///
                /// # Errors
                /// What the runtime says.
                pub(crate) fn $name(
                    &self,
                    request: proto::$request,
                ) -> Result<proto::$response, Status> {
                    sent::record(&request);
                    let mut client = self.$client();
                    self.wait(async move { client.$name(request).await })
                }
            )*
        }
    };
}

verbs! { runtime:
    version(VersionRequest) -> VersionResponse;
    status(StatusRequest) -> StatusResponse;
    runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
    update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
    run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse;
    stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
    remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
    pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
    list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
    create_container(CreateContainerRequest) -> CreateContainerResponse;
    start_container(StartContainerRequest) -> StartContainerResponse;
    stop_container(StopContainerRequest) -> StopContainerResponse;
    remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
    container_status(ContainerStatusRequest) -> ContainerStatusResponse;
    list_containers(ListContainersRequest) -> ListContainersResponse;
    exec_sync(ExecSyncRequest) -> ExecSyncResponse;
    exec(ExecRequest) -> ExecResponse;
    attach(AttachRequest) -> AttachResponse;
    port_forward(PortForwardRequest) -> PortForwardResponse;
    update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
    reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
    container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
    list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
    pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
    checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse;
    restore_pod(RestorePodRequest) -> RestorePodResponse;
    list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
    list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
    update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
    list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
}

verbs! { images:
    list_images(ListImagesRequest) -> ListImagesResponse;
    image_status(ImageStatusRequest) -> ImageStatusResponse;
    pull_image(PullImageRequest) -> PullImageResponse;
    remove_image(RemoveImageRequest) -> RemoveImageResponse;
    image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
}

macro_rules! streams {
    ($client:ident: $($name:ident($request:ident) -> $response:ident;)*) => {
        impl Cri {
            $(
                /// All messages of the CRI call of this name.
                ///
                /// # Errors
                /// What the runtime says, at the beginning or in the middle.
                pub(crate) fn $name(
                    &self,
                    request: proto::$request,
                ) -> Result<Vec<proto::$response>, Status> {
                    sent::record(&request);
                    let mut client = self.$client();
                    self.wait(async move {
                        let stream = client.$name(request).await?.into_inner();
                        stream.try_collect().await.map(tonic::Response::new)
                    })
                }
            )*
        }
    };
}

streams! { runtime:
    stream_pod_sandboxes(StreamPodSandboxesRequest) -> StreamPodSandboxesResponse;
    stream_containers(StreamContainersRequest) -> StreamContainersResponse;
    stream_container_stats(StreamContainerStatsRequest) -> StreamContainerStatsResponse;
    stream_pod_sandbox_stats(StreamPodSandboxStatsRequest) -> StreamPodSandboxStatsResponse;
    stream_pod_sandbox_metrics(StreamPodSandboxMetricsRequest) -> StreamPodSandboxMetricsResponse;
}

streams! { images:
    stream_images(StreamImagesRequest) -> StreamImagesResponse;
}
