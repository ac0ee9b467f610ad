//! A host that answers as a test wants, and remembers what it was asked.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// With the query.
    pub(super) path: String,
    pub(super) method: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// A status, headers with `\r\n` behind each, a body.
    Whole(u16, String, Vec<u8>),
    /// The same, but the connection ends after so many bytes of the body.
    Cut(Vec<u8>, usize),
    /// Never.
    Nothing,
}

impl Answer {
    pub(super) fn ok(body: &[u8]) -> Self {
        Self::Whole(200, String::new(), body.to_vec())
    }

    pub(super) fn status(status: u16, headers: &str) -> Self {
        Self::Whole(status, headers.to_owned(), Vec::new())
    }
}

type Script = dyn Fn(&Asked, usize) -> Answer + Send + Sync;

/// The host; it answers as long as the test's process lives.
pub(super) struct Host {
    pub(super) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Host {
    /// `script` gets a request and how many there were before it.
    pub(super) fn start(script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (heard, script): (_, Arc<Script>) = (Arc::clone(&asked), Arc::new(script));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (heard, script) = (Arc::clone(&heard), Arc::clone(&script));
                std::thread::spawn(move || serve(client.unwrap(), &heard, &*script));
            }
        });
        Self { address, asked }
    }

    /// All requests so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// One request a connection.
fn serve(mut client: TcpStream, heard: &Mutex<Vec<Asked>>, script: &Script) {
    let Some(request) = read(&mut client) else { return };
    let number = {
        let mut heard = heard.lock().unwrap();
        heard.push(request.clone());
        heard.len() - 1
    };
    let (status, headers, body, until) = match script(&request, number) {
        Answer::Whole(status, headers, body) => (status, headers, body, usize::MAX),
        Answer::Cut(body, until) => (200, String::new(), body, until),
        Answer::Nothing => {
            // Until the other end leaves.
            client.read_to_end(&mut Vec::new()).ok();
            return;
        }
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} x\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    let mut answer = head.into_bytes();
    answer.extend(&body[..until.min(length)]);
    client.write_all(&answer).ok();
    client.shutdown(Shutdown::Both).ok();
}

fn read(client: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = client.read(&mut buffer).ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let mut lines = head.lines();
        let mut first = lines.next()?.split(' ');
        let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.map_or(0, |(_, value)| value.parse().unwrap());
        if body.len() >= length {
            return Some(Asked { path, method, headers, body: body.to_owned() });
        }
    }
}
