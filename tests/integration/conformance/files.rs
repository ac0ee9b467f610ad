//! What a container's request puts into its file system.

use super::target::{Peer, Target, cases};
use crate::harness::image::BUSYBOX;
use crate::harness::machine::Need::PodNetwork;
use crate::harness::scene::bind;
use anyhow::{Result, ensure};
use berth::cri::proto;

cases! {
    "a_mount_is_where_and_as_it_was_asked_for", &[PodNetwork], Peer::Agrees, mounts;
    // Volumes of images are younger than Debian's containerd.
    "a_volume_of_an_image_is_told_as_it_was_asked_for", &[PodNetwork],
        Peer::Differs("images as volumes came after 1.6"), volumes;
    "a_device_is_where_and_as_it_was_asked_for", &[PodNetwork], Peer::Agrees, devices;
}

fn mounts(target: &Target<'_>) -> Result<()> {
    let volume = target.volume("mounted")?;
    let pod = target.pod("mounts", |_| {})?;
    let main = pod.start("main", |c| {
        let readonly = proto::Mount { readonly: true, ..bind(&volume, "/read") };
        c.mounts = vec![bind(&volume, "/written"), readonly];
    })?;
    main.says("cat /written/file /read/file", "from the host\nfrom the host")?;
    main.says("echo inside >/written/new && cat /read/new", "inside")?;
    ensure!(std::fs::read_to_string(volume.join("new"))? == "inside\n");
    main.says("touch /read/other 2>/dev/null && echo written || echo refused", "refused")?;
    let told = main.status()?.mounts;
    let read = told.iter().find(|mount| mount.container_path == "/read");
    ensure!(
        read.is_some_and(|m| m.readonly && m.host_path == volume.to_string_lossy()),
        "{told:?}"
    );
    Ok(())
}

/// The image of the tests as a volume.
pub(super) fn of_image(at: &str) -> proto::Mount {
    proto::Mount {
        container_path: at.into(),
        image: Some(proto::ImageSpec { image: BUSYBOX.into(), ..Default::default() }),
        readonly: true,
        ..Default::default()
    }
}

fn volumes(target: &Target<'_>) -> Result<()> {
    let pod = target.pod("volumes", |_| {})?;
    let main = pod.start("main", |c| {
        let mut mount = of_image("/volume");
        mount.image.get_or_insert_default().user_specified_image = "the-users:name".into();
        mount.image_sub_path = "www".into();
        c.mounts = vec![mount];
    })?;
    main.says("ls /volume", "index.html")?;
    let told = main.status()?.mounts;
    let image = told.first().and_then(|mount| mount.image.clone()).unwrap_or_default();
    ensure!(image.user_specified_image == "the-users:name", "{told:?}");
    ensure!(image.image == BUSYBOX && !image.image_ref.is_empty(), "{told:?}");
    Ok(())
}

/// The kernel's log: among what no container may use, and written to without a capability.
fn devices(target: &Target<'_>) -> Result<()> {
    const WRITE: &str = "(: >>/dev/mine) 2>/dev/null && echo may || echo may not";
    let pod = target.pod("devices", |_| {})?;
    for (permissions, told) in [("r", "may not"), ("w", "may")] {
        let main = pod.start(permissions, |c| {
            c.devices = vec![proto::Device {
                host_path: "/dev/kmsg".into(),
                container_path: "/dev/mine".into(),
                permissions: permissions.into(),
            }];
        })?;
        main.says("stat -c '%F %t:%T' /dev/mine", "character special file 1:b")?;
        main.says(WRITE, told)?;
    }
    let none = pod.start("none", |_| {})?;
    none.says("test -e /dev/mine || echo none", "none")
}
