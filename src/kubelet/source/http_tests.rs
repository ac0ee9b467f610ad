//! Over loopback: a host that answers, lies, hangs, sends elsewhere and sends too much.

use super::*;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A bound against hanging.
const SOON: Duration = Duration::from_secs(60);

fn text(image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{containers: [{{name: c, image: '{image}'}}]}}\n"
    )
}

/// What the host does with a request.
#[derive(Clone)]
enum Answer {
    Whole(u16, &'static str, Vec<u8>),
    /// Fewer bytes than it says.
    Cut(Vec<u8>),
    Nothing,
}

fn ok(text: &str) -> Answer {
    Answer::Whole(200, "", text.as_bytes().to_vec())
}

/// A host, a source that asks it, and what the source tells.
struct Asked {
    answer: Arc<Mutex<Answer>>,
    heard: Arc<Mutex<Vec<String>>>,
    url: String,
    updates: mpsc::Receiver<Update>,
    stop: CancellationToken,
}

impl Asked {
    fn start(first: Answer, shape: impl FnOnce(HttpSource) -> HttpSource) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/pods", listener.local_addr().unwrap());
        let (answer, heard) = (Arc::new(Mutex::new(first)), Arc::default());
        let (script, hears) = (Arc::clone(&answer), Arc::clone(&heard));
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for client in listener.incoming() {
                silent.extend(serve(client.unwrap(), &script, &hears));
            }
        });
        let (send, updates) = mpsc::channel(100);
        let stop = CancellationToken::new();
        let source = HttpSource::new(&url, "n").every(Duration::from_millis(20));
        tokio_util::task::TaskTracker::new().spawn(shape(source).run(send, stop.clone()));
        Self { answer, heard, url, updates, stop }
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    async fn next(&mut self) -> Update {
        tokio::time::timeout(SOON, self.updates.recv()).await.expect("in time").expect("it lives")
    }

    fn problems(&self, update: &Update) -> String {
        update.files[&self.url].problems.join("\n")
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One request; a client that gets no answer is given back.
fn serve(
    mut client: TcpStream,
    answer: &Mutex<Answer>,
    heard: &Mutex<Vec<String>>,
) -> Option<TcpStream> {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) == 1 {
        request.extend(byte);
    }
    heard.lock().unwrap().push(String::from_utf8(request).unwrap());
    let (status, headers, body, length) = match answer.lock().unwrap().clone() {
        Answer::Nothing => return Some(client),
        Answer::Whole(status, headers, body) => {
            let length = body.len();
            (status, headers, body, length)
        }
        Answer::Cut(body) => {
            let length = body.len() + 100;
            (200, "", body, length)
        }
    };
    let head = format!(
        "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    // The source may hang up before the end of what is too long.
    client.write_all(head.as_bytes()).and_then(|()| client.write_all(&body)).ok();
    None
}

fn images(update: &Update) -> Vec<&str> {
    let specs = update.pods.iter().map(|pod| pod.pod.spec.as_ref().unwrap());
    specs.map(|spec| spec.containers[0].image.as_deref().unwrap()).collect()
}

#[tokio::test]
async fn pods_of_a_url_come_and_follow_it() {
    let header = vec![("X-Node".to_owned(), "n1".to_owned())];
    let mut asked = Asked::start(ok(&text("one")), |source| source.with_headers(header));
    let first = asked.next().await;
    assert_eq!((images(&first), first.source), (vec!["one"], Source::Http));
    assert_eq!(first.pods[0].origin, asked.url);
    asked.answers(ok(&text("two")));
    assert_eq!(images(&asked.next().await), ["two"]);
    asked.answers(ok("apiVersion: v1\nkind: PodList\nitems: []\n"));
    assert_eq!(images(&asked.next().await), [""; 0]);
    let heard = asked.heard.lock().unwrap();
    assert!(
        heard[0].starts_with("GET /pods HTTP/1.1\r\n") && heard[0].contains("x-node: n1\r\n"),
        "{}",
        heard[0]
    );
}

#[tokio::test]
async fn a_host_that_fails_changes_nothing_but_what_is_told() {
    let within = |source: HttpSource| source.within(Duration::from_millis(300));
    let mut asked = Asked::start(ok(&text("one")), within);
    let good = asked.next().await;
    let rows = [
        ("an error", Answer::Whole(503, "", b"x".to_vec()), "the answer is 503"),
        ("a lie", ok("<html>"), "is not read here"),
        ("nothing", ok(""), "no object in it"),
        ("half an answer", Answer::Cut(text("two").into_bytes()), "error"),
        ("silence", Answer::Nothing, "no whole answer within 300ms"),
        ("too much", Answer::Whole(200, "", vec![b'#'; 11 << 20]), "longer than 10485760 bytes"),
        (
            "another host",
            Answer::Whole(302, "location: http://other.test/pods\r\n", vec![]),
            "another host, other.test",
        ),
        (
            "a file",
            Answer::Whole(302, "location: file:///etc/passwd\r\n", vec![]),
            "the answer is 302",
        ),
        (
            "itself, for ever",
            Answer::Whole(302, "location: /pods\r\n", vec![]),
            "more than 10 redirects",
        ),
    ];
    for (what, answer, problem) in rows {
        asked.answers(answer);
        let bad = asked.next().await;
        assert_eq!(bad.pods, good.pods, "{what}");
        assert!(asked.problems(&bad).contains(problem), "{what}: {}", asked.problems(&bad));
        asked.answers(ok(&text("one")));
        assert_eq!(asked.next().await, good, "{what}: it is well again");
    }
}

#[tokio::test]
async fn the_first_update_comes_also_from_a_host_that_is_not_there() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [format!("http://{free}/"), "no url".to_owned(), "ftp://x.test/".to_owned()] {
        let (send, mut updates) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let source = HttpSource::new(&url, "n");
        tokio_util::task::TaskTracker::new().spawn(source.run(send, stop.clone()));
        let update = tokio::time::timeout(SOON, updates.recv()).await.unwrap().unwrap();
        assert!(update.pods.is_empty(), "{url}");
        assert_eq!(update.files[&url].problems.len(), 1, "{url}");
        stop.cancel();
    }
}

#[tokio::test]
async fn a_host_that_is_not_there_at_the_start_has_the_pods_of_the_last_run() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}/");
    let mut reader = Reader::new(Source::Http, "n");
    reader.read(&url, Text::Bytes(text("one").as_bytes()));
    let last = reader.assemble().pods;
    let (send, mut updates) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let source = HttpSource::new(&url, "n").with_last(last.clone());
    tokio_util::task::TaskTracker::new().spawn(source.run(send, stop.clone()));
    let update = tokio::time::timeout(SOON, updates.recv()).await.unwrap().unwrap();
    assert_eq!((update.pods.len(), &update.pods), (1, &last));
    stop.cancel();
}
