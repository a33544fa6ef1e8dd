//! The connection over a real socket, with the test as its server.
#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use super::*;
use crate::adapters::redis::connection::resp::{Message, Parser};
use crate::adapters::redis::errors::{Code, Fate};
use crate::runtime::lock;
use bytes::BytesMut;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

const BOTH: [Drive; 2] = [Drive::ByCallers, Drive::ByWatchdog];
const PATIENT: Duration = Duration::from_secs(20);

/// What was pushed, as text.
type Pushed = Arc<Mutex<Vec<String>>>;

fn bounds() -> Bounds {
    Bounds::new(1 << 20, PATIENT)
}

/// A connection, the other end of it, and what is pushed over it.
fn connected(drive: Drive) -> (Arc<DrivenConnection>, Peer, Pushed) {
    let (connection, peer, heard) = listened(drive);
    (connection, peer, heard.pushed.clone())
}

/// A connection, the other end of it, and who hears what happens on it.
fn listened(drive: Drive) -> (Arc<DrivenConnection>, Peer, Arc<Heard>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let heard = Arc::new(Heard::default());
    let connection = DrivenConnection::new(Socket::Unix(ours), bounds(), drive, heard.clone());
    (Arc::new(connection), Peer::new(theirs), heard)
}

/// Keeps what was heard.
#[derive(Default)]
struct Heard {
    pushed: Pushed,
    /// As many writes.
    sent: AtomicU64,
    /// The writes that were answered, by number.
    answered: Mutex<Vec<u64>>,
    has_ended: AtomicBool,
}

impl Heard {
    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }
}

impl Listener for Heard {
    fn pushed(&self, push: Vec<Reply>) {
        lock(&self.pushed).push(format!("{push:?}"));
    }

    fn sending(&self) -> Option<u64> {
        Some(self.sent.fetch_add(1, Ordering::SeqCst))
    }

    fn answered(&self, sent_at: u64) {
        lock(&self.answered).push(sent_at);
    }

    fn ended(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
    }
}

/// The server's end, which does what a test says.
struct Peer {
    stream: UnixStream,
    input: BytesMut,
    parser: Parser,
}

impl Peer {
    fn new(stream: UnixStream) -> Self {
        Self { stream, input: BytesMut::new(), parser: Parser::new(bounds()) }
    }

    async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// The text of the next `ECHO`; `None` at the end.
    async fn asked(&mut self) -> Option<String> {
        loop {
            if let Some(Message::Reply(Reply::Array(command))) =
                self.parser.next(&mut self.input).unwrap()
            {
                let Some(Reply::Bulk(text)) = command.last() else { panic!("an ECHO") };
                return Some(String::from_utf8(text.to_vec()).unwrap());
            }
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn answer(&mut self, text: &str) {
        self.send(&format!("${}\r\n{text}\r\n", text.len())).await;
    }

    /// Answers all that comes, until the end.
    async fn serve(mut self) {
        while let Some(text) = self.asked().await {
            self.answer(&text).await;
        }
    }
}

fn deadline() -> Instant {
    Instant::now() + PATIENT
}

fn echo(text: &str) -> RawCommand {
    RawCommand::new("ECHO").arg(text)
}

async fn ask(connection: &DrivenConnection, text: &str) -> Result<Reply, Failure> {
    connection.exchange(&echo(text), deadline()).await
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.to_owned().into())
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENT, waiting).await.expect(what);
}

#[tokio::test]
async fn pushes_are_heard_in_order_with_replies() {
    for drive in BOTH {
        let (connection, mut peer, pushed) = connected(drive);
        let serving = tokio::spawn(async move {
            let text = peer.asked().await.unwrap();
            peer.send(">1\r\n$6\r\nbefore\r\n").await;
            peer.answer(&text).await;
            peer
        });
        assert_eq!(ask(&connection, "a").await.unwrap(), bulk("a"));
        let heard = lock(&pushed).clone();
        assert!(heard.len() == 1 && heard[0].contains("before"), "{drive:?}: {heard:?}");
        // While nothing is in flight, soon after a call and long after it.
        let mut peer = serving.await.unwrap();
        for n in 2..4 {
            peer.send(">1\r\n$5\r\nafter\r\n").await;
            eventually("a push is heard", || lock(&pushed).len() == n).await;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }
}

#[tokio::test]
async fn the_end_is_noticed_while_nothing_is_in_flight() {
    for drive in BOTH {
        let (connection, peer, _) = connected(drive);
        drop(peer);
        eventually("the end is known", || connection.wire.calls.has_ended()).await;
        assert_eq!(ask(&connection, "a").await.unwrap_err().fate, Fate::Drop);
    }
}

#[tokio::test]
async fn an_answer_says_when_its_question_was_sent() {
    for drive in BOTH {
        let (connection, peer, heard) = listened(drive);
        let serving = tokio::spawn(peer.serve());
        for number in 0..3 {
            assert_eq!(ask(&connection, "a").await.unwrap(), bulk("a"));
            assert_eq!(lock(&heard.answered).pop(), Some(number), "{drive:?}");
        }
        assert!(!heard.has_ended());
        serving.abort();
    }
}

/// A caller that has seen the end may read over another connection.
#[tokio::test]
async fn the_end_is_heard_before_any_call_ends_by_it() {
    for drive in BOTH {
        let (connection, mut peer, heard) = listened(drive);
        let asking = ask(&connection, "a");
        let closing = async {
            peer.asked().await;
            assert!(!heard.has_ended());
            drop(peer);
        };
        let (answer, ()) = tokio::join!(asking, closing);
        assert_eq!(answer.unwrap_err().fate, Fate::Drop);
        assert!(heard.has_ended(), "{drive:?}: the server closed it");

        let (connection, _peer, heard) = listened(drive);
        connection.end(&Failure::desynchronized());
        assert!(heard.has_ended(), "{drive:?}: it was ended");

        let (connection, _peer, heard) = listened(drive);
        drop(connection);
        assert!(heard.has_ended(), "{drive:?}: it was dropped");
    }
}

#[tokio::test]
async fn a_reply_that_was_not_asked_for_ends_the_connection() {
    for drive in BOTH {
        let (connection, mut peer, _) = connected(drive);
        peer.answer("stray").await;
        eventually("the end is known", || connection.wire.calls.has_ended()).await;
        let failure = ask(&connection, "a").await.unwrap_err();
        assert_eq!(failure.code, Code::Desynchronized, "{drive:?}");
    }
}

#[tokio::test]
async fn a_call_that_is_not_polled_holds_up_no_other() {
    let (connection, peer, _) = connected(Drive::ByCallers);
    tokio::spawn(peer.serve());
    let (first, second) = (echo("first"), echo("second"));
    let mut parked = pin!(connection.exchange(&first, deadline()));
    let mut other = pin!(connection.exchange(&second, deadline()));
    let mut context = Context::from_waker(Waker::noop());
    // It has written, and is the reader.
    assert!(parked.as_mut().poll(&mut context).is_pending());
    assert_eq!(timeout(PATIENT, other.as_mut()).await.unwrap().unwrap(), bulk("second"));
    let Poll::Ready(answer) = parked.as_mut().poll(&mut context) else { panic!("it has come") };
    assert_eq!(answer.unwrap(), bulk("first"));
}

#[tokio::test]
async fn a_call_that_was_never_polled_again_sends_for_others() {
    let (connection, peer, _) = connected(Drive::ByCallers);
    let command = echo("large").arg("x".repeat(2 << 20));
    let mut parked = pin!(connection.exchange(&command, deadline()));
    let mut context = Context::from_waker(Waker::noop());
    // It is the writer, of more than the socket takes.
    assert!(parked.as_mut().poll(&mut context).is_pending());
    tokio::spawn(peer.serve());
    assert_eq!(timeout(PATIENT, ask(&connection, "b")).await.unwrap().unwrap(), bulk("b"));
}

#[tokio::test]
async fn the_reply_after_a_deadline_belongs_to_no_later_call() {
    for drive in BOTH {
        let (connection, mut peer, _) = connected(drive);
        let soon = Instant::now() + Duration::from_millis(20);
        let failure = connection.exchange(&echo("late"), soon).await.unwrap_err();
        assert_eq!(failure.code, Code::Late);
        assert!(Instant::now() >= soon && connection.has_abandoned());
        let serving = async {
            for _ in 0..2 {
                let text = peer.asked().await.unwrap();
                peer.answer(&text).await;
            }
        };
        let (answer, ()) = tokio::join!(ask(&connection, "next"), serving);
        assert_eq!(answer.unwrap(), bulk("next"), "{drive:?}");
        assert!(!connection.has_abandoned());
    }
}

#[tokio::test]
async fn what_no_writer_has_taken_is_not_sent_after_its_deadline() {
    let (connection, peer, _) = connected(Drive::ByCallers);
    let command = echo("large").arg("x".repeat(2 << 20));
    let large = tokio::spawn({
        let connection = connection.clone();
        async move { connection.exchange(&command, deadline()).await }
    });
    eventually("it is being written", || connection.wire.calls.is_writing()).await;
    let soon = Instant::now() + Duration::from_millis(20);
    let unsent = connection.exchange(&echo("unsent"), soon).await.unwrap_err();
    assert_eq!(unsent.code, Code::Late);
    assert!(!connection.has_abandoned(), "the server never gets it");
    tokio::spawn(peer.serve());
    assert!(large.await.unwrap().is_ok());
    assert_eq!(ask(&connection, "next").await.unwrap(), bulk("next"));
}

/// Callers that come, wait and go, in random order and on two threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_that_of_its_call() {
    for drive in BOTH {
        let (connection, peer, _) = connected(drive);
        tokio::spawn(peer.serve());
        let callers = (0..16).map(|caller| {
            let connection = connection.clone();
            tokio::spawn(async move {
                for n in 0..300 {
                    let text = format!("{caller} {n}");
                    let patience = Duration::from_micros(fastrand::u64(..300));
                    if n % 2 == 0 {
                        assert_eq!(ask(&connection, &text).await.unwrap(), bulk(&text));
                    } else if let Ok(answer) = timeout(patience, ask(&connection, &text)).await {
                        assert_eq!(answer.unwrap(), bulk(&text));
                    }
                }
            })
        });
        for caller in futures_util::future::join_all(callers).await {
            caller.unwrap();
        }
    }
}

#[test]
fn without_its_runtime_a_connection_ends() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for drive in BOTH {
        let (home, other) = (runtime(), runtime());
        let (connection, _peer, _) = home.block_on(async { connected(drive) });
        let mut waiting = pin!(ask(&connection, "a"));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        home.shutdown_background();
        let ended = other.block_on(async { timeout(PATIENT, waiting).await });
        assert_eq!(ended.unwrap().unwrap_err().fate, Fate::Drop);
    }
}
