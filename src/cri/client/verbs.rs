//! The verbs that a kubelet uses, and how long each may take.

use super::CriError;
use crate::cri::proto::*;
use std::time::Duration;
use tonic::codegen::BoxStream;

/// What happens to containers and sandboxes, as GetContainerEvents tells it.
pub type Events = BoxStream<ContainerEventResponse>;

/// Expands `$then!` with the table of verbs: service, name, request, answer, limit in seconds. The limits are
/// a kubelet's: two minutes, four for a sandbox (CNI), none for a pull; ExecSync and StopContainer have their
/// own time on top.
macro_rules! with_verbs {
    ($then:ident) => {
        $then! {
            runtime version(VersionRequest) -> VersionResponse within 120;
            runtime status(StatusRequest) -> StatusResponse within 120;
            runtime runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse within 120;
            runtime update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse within 120;
            runtime run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse within 240;
            runtime stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse within 120;
            runtime remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse within 120;
            runtime pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse within 120;
            runtime list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse within 120;
            runtime pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse within 120;
            runtime list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse within 120;
            runtime list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse within 120;
            runtime list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse within 120;
            runtime create_container(CreateContainerRequest) -> CreateContainerResponse within 120;
            runtime start_container(StartContainerRequest) -> StartContainerResponse within 120;
            runtime stop_container(StopContainerRequest) -> StopContainerResponse within 120;
            runtime remove_container(RemoveContainerRequest) -> RemoveContainerResponse within 120;
            runtime container_status(ContainerStatusRequest) -> ContainerStatusResponse within 120;
            runtime list_containers(ListContainersRequest) -> ListContainersResponse within 120;
            runtime container_stats(ContainerStatsRequest) -> ContainerStatsResponse within 120;
            runtime list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse within 120;
            runtime update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse within 120;
            runtime reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse within 120;
            runtime exec_sync(ExecSyncRequest) -> ExecSyncResponse within 120;
            runtime exec(ExecRequest) -> ExecResponse within 120;
            runtime attach(AttachRequest) -> AttachResponse within 120;
            runtime port_forward(PortForwardRequest) -> PortForwardResponse within 120;
            images list_images(ListImagesRequest) -> ListImagesResponse within 120;
            images image_status(ImageStatusRequest) -> ImageStatusResponse within 120;
            images pull_image(PullImageRequest) -> PullImageResponse within 0;
            images remove_image(RemoveImageRequest) -> RemoveImageResponse within 120;
            images image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse within 120;
        }
    };
}
pub(super) use with_verbs;

macro_rules! declare {
    ($($service:ident $verb:ident($request:ident) -> $answer:ident within $limit:literal;)*) => {
        /// A container runtime, seen through CRI v1. Semantics of each verb are those of the interface.
        ///
        /// Dropping the future of a verb loses its answer and not its work: a repeat joins what is in flight.
        #[tonic::async_trait]
        pub trait Cri: Send + Sync + 'static {
            $(
                #[allow(missing_docs, reason = "the name is the documentation: the interface's own")]
                async fn $verb(&self, request: $request) -> Result<$answer, CriError>;
            )*

            /// What happens from now on. Ends when the runtime does.
            async fn events(&self) -> Result<Events, CriError>;
        }
    };
}
with_verbs!(declare);

/// The time that a request asks for itself, on top of its verb's limit.
pub(super) trait OwnTime {
    /// None for most.
    fn own_time(&self) -> Duration {
        Duration::ZERO
    }
}

/// Seconds as the protocol has them; less than none is none.
fn seconds(of: i64) -> Duration {
    Duration::from_secs(u64::try_from(of).unwrap_or(0))
}

macro_rules! own_time {
    ($($request:ident)*) => { $(impl OwnTime for $request {})* };
}
own_time! {
    VersionRequest StatusRequest RuntimeConfigRequest UpdateRuntimeConfigRequest RunPodSandboxRequest
    StopPodSandboxRequest RemovePodSandboxRequest PodSandboxStatusRequest ListPodSandboxRequest
    PodSandboxStatsRequest ListPodSandboxStatsRequest ListMetricDescriptorsRequest ListPodSandboxMetricsRequest CreateContainerRequest StartContainerRequest
    RemoveContainerRequest ContainerStatusRequest ListContainersRequest ContainerStatsRequest
    ListContainerStatsRequest UpdateContainerResourcesRequest ReopenContainerLogRequest ExecRequest AttachRequest
    PortForwardRequest ListImagesRequest ImageStatusRequest PullImageRequest RemoveImageRequest ImageFsInfoRequest
}

impl OwnTime for StopContainerRequest {
    fn own_time(&self) -> Duration {
        seconds(self.timeout)
    }
}

impl OwnTime for ExecSyncRequest {
    fn own_time(&self) -> Duration {
        seconds(self.timeout)
    }
}
