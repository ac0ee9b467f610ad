//! Streamed lists (KEP-5825): every message holds at least one item, every item is sent once, an
//! empty list is a stream without a message.

use futures::stream::{self, StreamExt as _};
use prost::Message;
use tonic::Status;
use tonic::codegen::BoxStream;

/// Clients that set no limit of their own take 4 MiB; the last item of a message comes on top.
const MAX_BYTES: usize = 1 << 20;

/// Sends `items` in messages of about [`MAX_BYTES`], each made when the caller has room for it.
pub(in crate::cri) fn chunks<T, R>(
    items: impl Iterator<Item = T> + Send + 'static,
    wrap: fn(Vec<T>) -> R,
) -> BoxStream<R>
where
    T: Message + 'static,
    R: Send + 'static,
{
    let mut items = items.peekable();
    let messages = std::iter::from_fn(move || {
        items.peek()?;
        let mut chunk = Vec::new();
        let mut bytes = 0;
        while bytes < MAX_BYTES
            && let Some(item) = items.next()
        {
            bytes += item.encoded_len();
            chunk.push(item);
        }
        Some(Ok(wrap(chunk)))
    });
    stream::iter(messages).boxed()
}

/// Sends what `read` makes of groups of `keys`; a group of which nothing is left sends no message.
pub(in crate::cri) fn read_chunks<K, T, R, F>(
    keys: Vec<K>,
    group: usize,
    read: impl Fn(Vec<K>) -> F + Send + 'static,
    wrap: fn(Vec<T>) -> R,
) -> BoxStream<R>
where
    K: Send + 'static,
    T: Send + 'static,
    R: Send + 'static,
    F: Future<Output = Result<Vec<T>, Status>> + Send + 'static,
{
    let left = keys.into_iter();
    let messages = stream::try_unfold((left, read), move |(mut left, read)| async move {
        loop {
            let keys: Vec<K> = left.by_ref().take(group).collect();
            if keys.is_empty() {
                return Ok(None);
            }
            let items = read(keys).await?;
            if !items.is_empty() {
                return Ok(Some((wrap(items), (left, read))));
            }
        }
    });
    messages.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::proto;

    fn image(name: &str) -> proto::Image {
        proto::Image { id: name.to_owned(), ..Default::default() }
    }

    async fn collect<R>(stream: BoxStream<R>) -> Vec<R> {
        stream.map(|message| message.unwrap()).collect().await
    }

    #[tokio::test]
    async fn every_item_is_sent_once_and_in_order() {
        let big = "x".repeat(MAX_BYTES / 2 + 1);
        let names: Vec<String> = (0..5).map(|n| format!("{n}{big}")).collect();
        let items: Vec<proto::Image> = names.iter().map(|n| image(n)).collect();
        let sent = collect(chunks(items.into_iter(), |images| images)).await;
        assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(sent.concat().into_iter().map(|i| i.id).collect::<Vec<_>>(), names);
    }

    #[tokio::test]
    async fn an_empty_list_sends_no_message() {
        let sent = collect(chunks(std::iter::empty::<proto::Image>(), |images| images)).await;
        assert!(sent.is_empty());
    }

    #[tokio::test]
    async fn a_group_of_which_nothing_is_left_sends_no_message() {
        let read = |keys: Vec<u32>| async move {
            Ok(keys.into_iter().filter(|k| *k > 3).map(|k| image(&k.to_string())).collect())
        };
        let sent = collect(read_chunks((0..8).collect(), 3, read, |images| images)).await;
        assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    }

    #[tokio::test]
    async fn an_error_ends_the_stream() {
        let read = |keys: Vec<u32>| async move {
            if keys.contains(&2) { Err(Status::internal("odd")) } else { Ok(vec![image("0")]) }
        };
        let stream = read_chunks((0..9).collect(), 2, read, |images| images);
        let sent: Vec<Result<Vec<proto::Image>, Status>> = stream.collect().await;
        assert_eq!(sent.len(), 2);
        assert!(sent.first().unwrap().is_ok() && sent.last().unwrap().is_err());
    }
}
