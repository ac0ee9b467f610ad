//! Exec, attach and port-forward as clients use them: real containers, and over each protocol.

mod ask;
mod attach;
mod echo;
mod exec;
mod forward;
mod handlers;
mod load;
mod peers;
mod refused;
mod spdy;
mod tls;

use crate::harness::Test;

pub(crate) fn tests() -> Vec<Test> {
    let mut all = exec::tests();
    all.extend(attach::tests());
    all.extend(forward::tests());
    all.extend(spdy::tests());
    all.extend(peers::tests());
    all.extend(tls::tests());
    all.extend(handlers::tests());
    all.extend(load::tests());
    all.extend(refused::tests());
    all
}
