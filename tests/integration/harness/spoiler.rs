//! An HTTP proxy before a registry that cuts, flips, stalls, points elsewhere and refuses, as a test wants, and remembers
//! what it was asked.

use anyhow::{Context as _, Result};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The head of a request.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// As it was sent: a path, or a whole address.
    pub(crate) target: String,
    lines: Vec<String>,
}

impl Head {
    /// The value of a header; its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing: the registry answers.
    Pass,
    /// The registry's answer ends after so many bytes, with its head.
    Cut(usize),
    /// A bit of the registry's answer is another at this byte.
    Flip(usize),
    /// The registry's answer, so many bytes at a time with a second in between.
    Throttle(usize),
    /// There is no answer.
    Stall,
    /// This status, with these headers (`\r\n` behind each).
    Answer(u16, String),
}

type Script = dyn Fn(&Head, usize) -> Fault + Send + Sync;

/// The proxy. It runs until the tests end.
pub(crate) struct Spoiler {
    /// Host and port.
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Head>>>,
}

impl Spoiler {
    /// Listens on `host` for the registry at `upstream`. `script` gets each request, and how many there were before.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(crate) fn start(
        host: &str,
        upstream: &str,
        script: impl Fn(&Head, usize) -> Fault + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind((host, 0))?;
        let address = listener.local_addr()?.to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (upstream, heard) = (upstream.to_owned(), Arc::clone(&asked));
        let script: Arc<Script> = Arc::new(script);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (upstream, heard) = (upstream.clone(), Arc::clone(&heard));
                let script = Arc::clone(&script);
                // A connection that fails is the client's to notice.
                std::thread::spawn(move || serve(client, &upstream, &heard, &*script).ok());
            }
        });
        Ok(Self { address, asked })
    }

    /// All requests whose target has `part` in it.
    pub(crate) fn asked(&self, part: &str) -> Vec<Head> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|head| head.target.contains(part)).cloned().collect()
    }
}

/// One request a connection.
fn serve(
    mut client: TcpStream,
    upstream: &str,
    asked: &Mutex<Vec<Head>>,
    script: &Script,
) -> Result<()> {
    let head = read_head(&mut client)?;
    let number = {
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(head.clone());
        asked.len() - 1
    };
    let (mut left, mut flip, mut slow) = (usize::MAX, usize::MAX, usize::MAX);
    match script(&head, number) {
        Fault::Pass => {}
        Fault::Cut(at) => left = at,
        Fault::Flip(at) => flip = at,
        Fault::Throttle(bytes) => slow = bytes,
        Fault::Stall => {
            client.read_to_end(&mut Vec::new())?;
            return Ok(());
        }
        Fault::Answer(status, headers) => {
            let answer = format!(
                "HTTP/1.1 {status} x\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
            client.write_all(answer.as_bytes())?;
            client.shutdown(Shutdown::Both)?;
            return Ok(());
        }
    }
    let mut registry = TcpStream::connect(upstream)?;
    // To a proxy the whole address is said.
    let path = match head.target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => &head.target,
    };
    let mut request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n");
    for line in head.lines.iter().filter(|line| !line.to_lowercase().starts_with("connection:")) {
        request.push_str(&format!("{line}\r\n"));
    }
    registry.write_all(format!("{request}\r\n").as_bytes())?;
    let mut buffer = vec![0; 16 << 10];
    let (mut passed, mut rest) = (0, slow);
    while left > 0 {
        if passed >= rest {
            std::thread::park_timeout(Duration::from_secs(1));
            rest = rest.saturating_add(slow);
        }
        let n = registry.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        if (passed..passed + n).contains(&flip) {
            buffer[flip - passed] ^= 1;
        }
        let n = n.min(left);
        client.write_all(&buffer[..n])?;
        (left, passed) = (left - n, passed + n);
    }
    client.shutdown(Shutdown::Both)?;
    Ok(())
}

fn read_head(client: &mut TcpStream) -> Result<Head> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    let text = String::from_utf8(bytes)?;
    let mut lines = text.lines();
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).context("no target")?;
    let lines = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    Ok(Head { target: target.to_owned(), lines })
}
