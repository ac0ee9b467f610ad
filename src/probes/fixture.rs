//! What tests of several files need.

use super::check::Checker;
use crate::cri::client::RemoteCri;
use std::sync::Arc;
use tokio::net::UnixListener;

/// Checks of a runtime that listens, as long as the listener is held, and never answers: for checks that do not
/// ask it.
pub(super) async fn checker() -> (Arc<Checker>, UnixListener) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let cri = RemoteCri::connect(&socket).await.unwrap();
    (Arc::new(Checker::new(Arc::new(cri)).unwrap()), listener)
}
