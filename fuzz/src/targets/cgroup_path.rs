//! Cgroup paths: whoever may make a cgroup chooses its name.

use orb8_agent::identity;

/// Reads any path.
pub fn run(data: &[u8]) {
    let path = String::from_utf8_lossy(data);
    let parts = identity::parse(&path);
    assert_eq!(parts, identity::parse(&format!("//{path}/")), "slashes around {path:?} matter");
    let inside = parts.pod_uid.is_some() || parts.container_id.is_some();
    assert!(!(inside && parts.unit.is_some()), "{path:?} is in a pod or container and in a unit");
    for text in [&parts.pod_uid, &parts.container_id, &parts.unit].into_iter().flatten() {
        assert!(!text.is_empty() && !text.contains('/'), "{path:?} gave {text:?}");
    }
}

/// One path for each rule of the grammar.
pub fn seeds() -> Vec<Vec<u8>> {
    let id = "4f1d6bd0d4d1a4b7b9e43d8b1f8d4f0c9b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e";
    let uid = "0b7f8f6e-3a9d-4a43-9c5e-2f1f6c8f9a01";
    let slice_uid = uid.replace('-', "_");
    let static_uid = "5d2d1e0c9f8b7a6f5e4d3c2b1a098765";
    [
        "/".to_owned(),
        "/init.scope".to_owned(),
        "/system.slice/ssh.service".to_owned(),
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope".to_owned(),
        format!("/system.slice/docker-{id}.scope"),
        format!("/docker/{id}"),
        format!("/docker/{id}/docker/{id}"),
        format!("/machine.slice/libpod-{id}.scope/container"),
        format!("/system.slice/nerdctl-{id}.scope"),
        format!("/default/{id}"),
        format!("/libpod_parent/{id}"),
        format!("/kubepods/burstable/pod{uid}/{id}"),
        format!("/kubepods/pod{uid}/crio-{id}"),
        format!("/kubepods/besteffort/pod{static_uid}/{id}"),
        format!("/kubepods.slice/kubepods-pod{slice_uid}.slice/cri-containerd-{id}.scope"),
        format!(
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
             kubelet-kubepods-burstable-pod{slice_uid}.slice/crio-{id}.scope"
        ),
        format!("/kubepods-besteffort-pod{slice_uid}.slice:cri-containerd:{id}"),
    ]
    .map(String::into_bytes)
    .into()
}
