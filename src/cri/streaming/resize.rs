//! The resize stream: JSON objects with `Width` and `Height`, in characters, one after another.

use super::channels::Input;
use crate::sys::tty::Size;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

/// The longest object, bytes; a size needs forty.
const LONGEST: usize = 4 << 10;

/// A size as clients write it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    width: u16,
    height: u16,
}

/// Sizes as they come.
pub(super) struct Sizes {
    from: Input,
    held: Vec<u8>,
}

impl Sizes {
    pub(super) fn new(from: Input) -> Self {
        Self { from, held: Vec::new() }
    }

    /// The next size; `None` when none will come: the stream has ended, or is no sizes. May be cancelled.
    pub(super) async fn next(&mut self) -> Option<Size> {
        loop {
            match first(&self.held) {
                Parsed::Size(size, used) => {
                    self.held.drain(..used);
                    return Some(size);
                }
                Parsed::Partial if self.held.len() < LONGEST => {}
                Parsed::Partial | Parsed::Broken => return None,
            }
            // `read_buf` keeps nothing back when it is cancelled.
            if self.from.read_buf(&mut self.held).await.ok()? == 0 {
                return None;
            }
        }
    }
}

enum Parsed {
    Size(Size, usize),
    Partial,
    Broken,
}

fn first(held: &[u8]) -> Parsed {
    let mut sizes = serde_json::Deserializer::from_slice(held).into_iter::<Told>();
    match sizes.next() {
        Some(Ok(Told { width, height })) => {
            Parsed::Size(Size { columns: width, rows: height }, sizes.byte_offset())
        }
        Some(Err(error)) if !error.is_eof() => Parsed::Broken,
        _ => Parsed::Partial,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sizes(bytes: &'static [u8]) -> Vec<(u16, u16)> {
        let mut sizes = Sizes::new(Box::new(bytes));
        let mut all = Vec::new();
        while let Some(size) = sizes.next().await {
            all.push((size.columns, size.rows));
        }
        all
    }

    #[tokio::test]
    async fn sizes_are_read_one_after_another_until_something_else() {
        let two = br#"{"Width":80,"Height":24} {"Height":1,"Width":2}"#;
        assert_eq!(sizes(two).await, [(80, 24), (2, 1)]);
        assert_eq!(sizes(b"{\"Width\":80,\"Height\":24}\n{\"Wid").await, [(80, 24)]);
        assert_eq!(sizes(b"{\"Width\":80}").await, []);
        assert_eq!(sizes(b"{\"Width\":70000,\"Height\":24}").await, []);
        assert_eq!(sizes(b"rubbish").await, []);
        static LONG: [u8; LONGEST + 1] = [b' '; LONGEST + 1];
        assert_eq!(sizes(&LONG).await, []);
    }
}
