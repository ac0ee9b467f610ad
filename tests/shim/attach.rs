//! Clients at the streams of a container under a real shim.

use std::fs;
use std::os::fd::OwnedFd;

use berth::shim::client::{AttachEnd, Attachment, ContainerIo, ShimError, Wanted};
use nix::errno::Errno;
use tokio::time::{Duration, sleep, timeout};

use super::container::Container;
use super::world::{Pod, SOON};

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, stdin_once: false };
const OUTPUT: Wanted = Wanted { stdin: false, ..ALL };
const ONCE: Wanted = Wanted { stdin_once: true, ..ALL };

impl Pod {
    async fn running(&self, script: &str, tty: bool) -> Container {
        let container = Container::with_terminal(script, tty);
        let io = ContainerIo { stdin: !tty, ..container.io(tty) };
        container.try_start(self, io).await.unwrap();
        container
    }

    async fn attach(&self, to: &Container, wanted: Wanted) -> Attachment {
        self.shim.attach(&to.id, wanted).await.unwrap()
    }

    async fn refused(&self, to: &Container, wanted: Wanted) -> i32 {
        match self.shim.attach(&to.id, wanted).await {
            Err(ShimError::Step { errno, .. }) => errno,
            other => panic!("{other:?}"),
        }
    }
}

/// Reads until `enough` of what has come.
async fn read_until(from: &Option<OwnedFd>, enough: impl Fn(&str) -> bool) -> String {
    let from = from.as_ref().unwrap();
    let (mut text, mut block) = (String::new(), vec![0; 64 << 10]);
    let reading = async {
        while !enough(&text) {
            match nix::unistd::read(from, &mut block) {
                Ok(0) => break,
                Ok(n) => text.push_str(std::str::from_utf8(block.get(..n).unwrap()).unwrap()),
                Err(Errno::EAGAIN) => sleep(Duration::from_millis(2)).await,
                Err(e) => panic!("{e}"),
            }
        }
    };
    let late = timeout(SOON, reading).await.is_err();
    assert!(!late && enough(&text), "{} bytes: {:?}", text.len(), &text[..text.len().min(200)]);
    text
}

async fn hear(from: &Attachment, end: &str) -> String {
    read_until(&from.stdout, |text| text.ends_with(end)).await
}

/// Reads to the end.
async fn rest(from: &Option<OwnedFd>) -> String {
    let (mut text, mut block) = (String::new(), vec![0; 64 << 10]);
    let reading = async {
        loop {
            match nix::unistd::read(from.as_ref().unwrap(), &mut block) {
                Ok(0) => break,
                Ok(n) => text.push_str(std::str::from_utf8(block.get(..n).unwrap()).unwrap()),
                Err(Errno::EAGAIN) => sleep(Duration::from_millis(2)).await,
                Err(e) => panic!("{e}"),
            }
        }
    };
    timeout(SOON, reading).await.unwrap();
    text
}

async fn say(to: &Attachment, mut bytes: &[u8]) {
    let to = to.stdin.as_ref().unwrap();
    let writing = async {
        while !bytes.is_empty() {
            match nix::unistd::write(to, bytes) {
                Ok(n) => bytes = bytes.get(n..).unwrap(),
                Err(Errno::EAGAIN) => sleep(Duration::from_millis(2)).await,
                Err(e) => panic!("{e}"),
            }
        }
    };
    timeout(SOON, writing).await.unwrap();
}

async fn ended(client: &Attachment) -> AttachEnd {
    timeout(SOON, client.ended()).await.unwrap()
}

/// The client has said all.
fn finish(client: &mut Attachment) {
    client.stdin = None;
    client.end_input();
}

fn fds(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[tokio::test]
async fn two_clients_hear_the_same_from_now_on_and_both_talk() {
    let pod = Pod::start().await;
    let container = pod.running("echo before; cat; echo after", false).await;
    container.wait_for("before\n").await;
    let one = pod.attach(&container, ALL).await;
    let mut two = pod.attach(&container, ALL).await;
    say(&one, b"from one\n").await;
    assert_eq!(hear(&one, "\n").await, "from one\n");
    assert_eq!(hear(&two, "\n").await, "from one\n");
    say(&two, b"from two\n").await;
    assert_eq!(hear(&one, "\n").await, "from two\n");
    assert_eq!(hear(&two, "\n").await, "from two\n");
    // One that leaves, and one that has said all, close nothing.
    drop(one);
    finish(&mut two);
    assert_eq!(ended(&two).await, AttachEnd::InputEnded);
    let three = pod.attach(&container, ALL).await;
    say(&three, b"still open\n").await;
    assert_eq!(hear(&three, "\n").await, "still open\n");
    let lines = ["before", "from one", "from two", "still open"];
    let expected: String = lines.iter().map(|l| format!("stdout F {l}\n")).collect();
    assert_eq!(container.text(), expected);
    pod.end().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_holds_up_nobody() {
    let mut pod = Pod::start().await;
    let container = pod.running("read x; seq 1 300000; echo errors >&2; exit 6", false).await;
    let (stuck, reading) =
        (pod.attach(&container, OUTPUT).await, pod.attach(&container, ALL).await);
    let (go, said) = (say(&reading, b"go\n"), rest(&reading.stdout));
    let ((), said) = tokio::join!(go, said);
    let all: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    // The one that reads may have been too slow, too: what it has heard is no other than was said.
    assert!(all.starts_with(&said), "{} bytes", said.len());
    assert_eq!(pod.exit_of(&container).await.1.exit_code, 6);
    let logged = container.text();
    let logged: String = logged
        .lines()
        .filter_map(|l| l.strip_prefix("stdout F "))
        .flat_map(|l| [l, "\n"])
        .collect();
    assert!(logged == all, "{} of {} bytes are in the log", logged.len(), all.len());
    let AttachEnd::Behind { bytes } = ended(&stuck).await else { panic!() };
    assert!((128 << 10..=256 << 10).contains(&bytes), "{bytes}");
    let unread = rest(&stuck.stdout).await;
    assert_eq!(unread.len() as u64, bytes);
    assert!(all.starts_with(&unread));
    pod.end().await;
}

#[tokio::test]
async fn all_that_was_said_before_the_end_is_heard_and_then_the_end() {
    let mut pod = Pod::start().await;
    let container = pod.running("read x; seq 1 20000; echo errors >&2; exit 7", false).await;
    let client = pod.attach(&container, ALL).await;
    say(&client, b"\n").await;
    assert_eq!(ended(&client).await, AttachEnd::Exited { code: 7 });
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert!(rest(&client.stdout).await == expected);
    assert_eq!(rest(&client.stderr).await, "errors\n");
    pod.exit_of(&container).await;
    // Not while it does not run, nor one that never was.
    assert_eq!(pod.refused(&container, OUTPUT).await, libc::ESRCH);
    assert_eq!(pod.refused(&Container::new(""), OUTPUT).await, libc::ENOENT);
    pod.end().await;
}

#[tokio::test]
async fn with_stdin_once_the_first_end_of_input_is_the_container_s() {
    let mut pod = Pod::start().await;
    let container = pod.running("cat; echo all; exit 8", false).await;
    let (mut first, second) =
        (pod.attach(&container, ONCE).await, pod.attach(&container, ONCE).await);
    say(&first, b"input\n").await;
    finish(&mut first);
    // It hears on.
    assert_eq!(hear(&first, "all\n").await, "input\nall\n");
    assert_eq!(hear(&second, "all\n").await, "input\nall\n");
    assert_eq!(ended(&first).await, AttachEnd::Exited { code: 8 });
    assert_eq!(ended(&second).await, AttachEnd::Exited { code: 8 });
    pod.exit_of(&container).await;

    let container = pod.running("cat; echo all; sleep 1000", false).await;
    // One without input closes nothing, one that leaves without a word does.
    drop(pod.attach(&container, Wanted { stdin: false, ..ONCE }).await);
    let leaving = pod.attach(&container, ONCE).await;
    say(&leaving, b"input\n").await;
    leaving.end_input();
    drop(leaving);
    container.wait_for("stdout F input\nstdout F all\n").await;
    assert_eq!(pod.refused(&container, ONCE).await, libc::EPIPE);
    pod.attach(&container, OUTPUT).await;
    pod.end().await;
}

#[tokio::test]
async fn a_lost_daemon_closes_no_input_and_the_next_one_attaches_again() {
    let mut pod = Pod::start().await;
    let container = pod.running("cat; echo all; exit 0", false).await;
    let client = pod.attach(&container, ONCE).await;
    say(&client, b"before\n").await;
    // As the kernel closes it for a process that was killed.
    drop(client);
    pod.adopt().await;
    let mut client = pod.attach(&container, ONCE).await;
    say(&client, b"after\n").await;
    hear(&client, "after\n").await;
    assert_eq!(container.text(), "stdout F before\nstdout F after\n");
    finish(&mut client);
    assert_eq!(ended(&client).await, AttachEnd::Exited { code: 0 });
    pod.end().await;
}

#[tokio::test]
async fn a_terminal_is_shared_and_its_input_stays_open() {
    let mut pod = Pod::start().await;
    let script = "stty -echo; echo ready; while read x; do echo got $x; done";
    let container = pod.running(script, true).await;
    container.wait_for("ready").await;
    let wanted = Wanted { stderr: false, ..ONCE };
    let (mut one, two) =
        (pod.attach(&container, wanted).await, pod.attach(&container, wanted).await);
    say(&one, b"this\n").await;
    assert_eq!(hear(&one, "\n").await, "got this\r\n");
    assert_eq!(hear(&two, "\n").await, "got this\r\n");
    finish(&mut one);
    assert_eq!(ended(&one).await, AttachEnd::InputEnded);
    say(&two, b"that\n").await;
    assert_eq!(hear(&two, "\n").await, "got that\r\n");
    // What a terminal takes for the end is.
    say(&two, &[4]).await;
    assert_eq!(ended(&two).await, AttachEnd::Exited { code: 0 });
    pod.exit_of(&container).await;
    pod.end().await;
}

#[tokio::test]
async fn input_waits_for_the_container_and_all_of_it_arrives() {
    let mut pod = Pod::start().await;
    // Slower than what is said.
    let container = pod.running("sleep 1; wc -c", false).await;
    let mut client = pod.attach(&container, ONCE).await;
    let bytes = vec![b'x'; 3 << 20];
    say(&client, &bytes).await;
    finish(&mut client);
    assert_eq!(hear(&client, "\n").await.trim(), bytes.len().to_string());
    assert_eq!(ended(&client).await, AttachEnd::Exited { code: 0 });
    pod.exit_of(&container).await;
    pod.end().await;
}

#[tokio::test]
async fn clients_that_are_gone_cost_nothing_and_too_many_are_refused() {
    let pod = Pod::start().await;
    let container = pod.running("sleep 1000", false).await;
    let before = fds(pod.process.pid);
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(pod.attach(&container, ALL).await);
    }
    assert_eq!(fds(pod.process.pid), before + 64 * 4);
    assert_eq!(pod.refused(&container, ALL).await, libc::EAGAIN);
    for (n, mut client) in clients.drain(..).enumerate() {
        match n % 4 {
            0 => client.end_input(),
            1 => finish(&mut client),
            // Bytes that nobody takes.
            2 => drop(nix::unistd::write(client.stdin.as_ref().unwrap(), &[0; 60_000])),
            _ => client.stdout = None,
        }
    }
    let gone = async {
        while fds(pod.process.pid) != before {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(SOON, gone).await.is_ok(), "{} are left", fds(pod.process.pid) - before);
    pod.end().await;
}
