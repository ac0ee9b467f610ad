//! Standard input, read beside everything else.

use std::io::{self, Read as _};
use tokio::sync::mpsc;

/// How much is read at once, bytes.
const BLOCK: usize = 32 << 10;

/// Reads standard input; what comes, until the channel ends with it.
///
/// # Errors
/// There is no thread for it.
pub(super) fn listen() -> io::Result<mpsc::Receiver<Vec<u8>>> {
    let (sender, typed) = mpsc::channel(4);
    // A thread of its own: a read of standard input cannot be taken back, and the process ends
    // without waiting for it.
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || pass_on(&sender))?;
    Ok(typed)
}

fn pass_on(sender: &mpsc::Sender<Vec<u8>>) {
    let mut block = vec![0; BLOCK];
    loop {
        let typed = match io::stdin().read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A terminal that has gone is the end, too.
            Ok(0) | Err(_) => return,
            Ok(count) => block.get(..count).unwrap_or_default().to_vec(),
        };
        if sender.blocking_send(typed).is_err() {
            return;
        }
    }
}
