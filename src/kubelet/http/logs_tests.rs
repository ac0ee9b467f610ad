//! Of files alone: what a container's runtime says is asked in the integration tests.

use super::*;

fn log(lines: impl IntoIterator<Item = String>) -> Vec<u8> {
    let head = "2026-01-02T03:04:05Z stdout F ";
    lines.into_iter().flat_map(|line| format!("{head}{line}\n").into_bytes()).collect()
}

async fn sent(path: &Path, query: &str) -> String {
    let query = Query::parse(Some(query));
    let query = LogQuery::parse(&query, Timestamp::now()).unwrap();
    let source = open(path, &query, None).await.unwrap().unwrap();
    let (told, mut pieces) = mpsc::channel::<io::Result<Bytes>>(WAITING);
    let gather = async {
        let mut all = Vec::new();
        while let Some(piece) = pieces.recv().await {
            all.extend_from_slice(&piece.unwrap());
        }
        String::from_utf8(all).unwrap()
    };
    let send = async {
        send(source, None, &told).await.unwrap();
        drop(told);
    };
    tokio::join!(send, gather).1
}

#[tokio::test]
async fn a_log_of_many_blocks_is_sent_whole_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    std::fs::write(&path, log((0..50_000).map(|n| n.to_string()))).unwrap();
    let expected: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    assert!(sent(&path, "").await == expected);
    assert_eq!(sent(&path, "tailLines=2").await, "49998\n49999\n");
    assert_eq!(sent(&path, "limitBytes=3").await, "0\n1");
}

#[tokio::test]
async fn a_line_that_was_never_ended_is_sent_last() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut text = log(["one".to_owned()]);
    text.extend_from_slice(b"2026-01-02T03:04:06Z stdout F tw");
    std::fs::write(&path, text).unwrap();
    assert_eq!(sent(&path, "").await, "one\ntw\n");
}

#[tokio::test]
async fn a_log_that_is_not_there_yet_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let none = open(&dir.path().join("0.log"), &LogQuery::default(), None).await.unwrap();
    assert!(none.is_none());
}

#[tokio::test]
async fn a_client_that_is_gone_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    std::fs::write(&path, log((0..50_000).map(|n| n.to_string()))).unwrap();
    let source = open(&path, &LogQuery::default(), None).await.unwrap().unwrap();
    let (told, pieces) = mpsc::channel(WAITING);
    drop(pieces);
    send(source, None, &told).await.unwrap_err();
}
