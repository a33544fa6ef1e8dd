//! A server that sends what no server sends: malformed replies, and replies without an end.

use super::{PATIENT, prefix, put, text};
use crate::support::alone::{alone, resident};
use crate::support::{Redis, eventually};
use larder::{AsyncCacheAdapter, AsyncRedisCache, ErrorKind, RedisBuilder};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fmt, io};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How much more memory the process may ever have.
const MOST: u64 = 64 << 20;
const OP_TIMEOUT: Duration = Duration::from_millis(250);

/// What takes the place of an answer: this once, and then that again and again for as long as it is
/// read.
#[derive(Clone, Copy)]
struct Nonsense {
    first: &'static [u8],
    then: &'static [u8],
    /// Between two pieces.
    pause: Duration,
}

/// The beginning of each.
impl fmt::Display for Nonsense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bytes: &'static [u8]| bytes[..bytes.len().min(24)].escape_ascii();
        write!(f, "`{}`, then `{}`", shown(self.first), shown(self.then))
    }
}

const fn endless(first: &'static [u8], then: &'static [u8]) -> Nonsense {
    Nonsense { first, then, pause: Duration::ZERO }
}

const fn slow(first: &'static [u8], then: &'static [u8]) -> Nonsense {
    Nonsense { first, then, pause: Duration::from_millis(5) }
}

const LONG: &[u8] = &[b'a'; 4096];

const KINDS: [Nonsense; 30] = [
    endless(b"$1152921504606846976\r\n", LONG),
    endless(b"$99999999999999999999999\r\n", LONG),
    endless(b"$1000000\r\n", LONG),
    slow(b"$60000000\r\n", b"a"),
    endless(b"$-5\r\n", LONG),
    endless(b"$\r\n", LONG),
    endless(b"$?\r\n", b";4\r\naaaa\r\n"),
    endless(b"$3\r\nabcde", LONG),
    endless(b"*1152921504606846976\r\n", b"$1\r\na\r\n"),
    endless(b"*1000000\r\n", b":1\r\n"),
    endless(b"*1000\r\n", b"*1000\r\n"),
    endless(b"*-7\r\n", b"*-7\r\n"),
    endless(b"", b"*1\r\n"),
    slow(b"", b"*1\r\n"),
    endless(b"+", LONG),
    endless(b"-ERR ", LONG),
    endless(b":", b"1"),
    endless(b"(", b"1"),
    endless(b",", b"1"),
    endless(b"%1152921504606846976\r\n", b"+a\r\n"),
    endless(b"~1152921504606846976\r\n", b"+a\r\n"),
    endless(b"=1152921504606846976\r\ntxt:", LONG),
    endless(b"!1152921504606846976\r\n", LONG),
    endless(b"", b"|1\r\n+a\r\n+b\r\n"),
    endless(b"", b">2\r\n+a\r\n+b\r\n"),
    endless(b"HTTP/1.1 200 OK\r\n", b"Header: value\r\n"),
    endless(b"", b"\0\0\0\0"),
    endless(b"", b"\r\n"),
    endless(b"#x\r\n", b"#x\r\n"),
    // The answer is right, and what comes between two calls is not.
    endless(b"$-1\r\n$60000000\r\n", b"+OK\r\n"),
];

/// Between a real server and the cache: while there is nonsense, it takes the place of the answer
/// to a `GET`.
struct Hostile {
    target: SocketAddr,
    nonsense: Mutex<Option<Nonsense>>,
    /// Connections on which nonsense is sent now, and how many there have been.
    sending: AtomicUsize,
    sent: AtomicUsize,
}

impl Hostile {
    async fn start(target: SocketAddr) -> (Arc<Self>, SocketAddr) {
        let (sending, sent) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let hostile = Arc::new(Self { target, nonsense: Mutex::new(None), sending, sent });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let this = hostile.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let this = this.clone();
                // An error is the end of a connection, on either side.
                tokio::spawn(async move { this.serve(client).await });
            }
        });
        (hostile, addr)
    }

    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let mut server = TcpStream::connect(self.target).await?;
        let (mut asked, mut answered) = (vec![0; 16 << 10], vec![0; 16 << 10]);
        loop {
            tokio::select! {
                len = client.read(&mut asked) => {
                    let asked = &asked[..len?];
                    let nonsense = *self.nonsense.lock().unwrap();
                    match nonsense {
                        _ if asked.is_empty() => return Ok(()),
                        Some(nonsense) if asks(asked) => {
                            self.sending.fetch_add(1, Ordering::SeqCst);
                            self.sent.fetch_add(1, Ordering::SeqCst);
                            let ended = send(&mut client, nonsense).await;
                            self.sending.fetch_sub(1, Ordering::SeqCst);
                            return ended;
                        }
                        _ => server.write_all(asked).await?,
                    }
                },
                len = server.read(&mut answered) => match len? {
                    0 => return Ok(()),
                    len => client.write_all(&answered[..len]).await?,
                },
            }
        }
    }
}

fn asks(commands: &[u8]) -> bool {
    const GET: &[u8] = b"\r\nGET\r\n";
    commands.windows(GET.len()).any(|window| window == GET)
}

/// Until the other side closes.
async fn send(client: &mut TcpStream, nonsense: Nonsense) -> io::Result<()> {
    client.write_all(nonsense.first).await?;
    let many = if nonsense.pause.is_zero() { (16 << 10) / nonsense.then.len() } else { 1 };
    let piece = nonsense.then.repeat(many);
    loop {
        client.write_all(&piece).await?;
        tokio::time::sleep(nonsense.pause).await;
    }
}

/// The most memory that the process has had since this began, looked at all the time.
struct Memory {
    most: Arc<AtomicU64>,
    go: Arc<AtomicBool>,
}

impl Memory {
    fn watch() -> Self {
        let memory = Self { most: Arc::default(), go: Arc::new(AtomicBool::new(true)) };
        let (most, go) = (memory.most.clone(), memory.go.clone());
        std::thread::spawn(move || {
            while go.load(Ordering::Relaxed) {
                most.fetch_max(resident(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        memory
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.go.store(false, Ordering::Relaxed);
    }
}

async fn meets(hostile: &Hostile, cache: &AsyncRedisCache, nonsense: Nonsense) {
    *hostile.nonsense.lock().unwrap() = Some(nonsense);
    let before = hostile.sent.load(Ordering::SeqCst);
    match cache.get("k").await {
        Ok(found) => {
            assert!(nonsense.first.starts_with(b"$-1") && found.is_none(), "{nonsense}");
        }
        Err(error) => assert!(
            matches!(
                error.kind(),
                ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Backend
            ),
            "{nonsense}: {error:?}"
        ),
    }
    assert!(hostile.sent.load(Ordering::SeqCst) > before, "{nonsense}: never sent");
    *hostile.nonsense.lock().unwrap() = None;
    eventually(
        "another connection answers",
        PATIENT,
        async || matches!(text(cache, "k").await, Ok(Some(found)) if found == "v"),
    )
    .await;
    eventually("the nonsense is read no more", PATIENT, async || {
        hostile.sending.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[test]
fn whatever_is_sent_takes_little_memory_and_one_connection() {
    alone("redis::hostile::whatever_is_sent_takes_little_memory_and_one_connection", || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Redis::start();
            let (hostile, addr) = Hostile::start(server.addr()).await;
            let mut start = None;
            for resp3 in [false, true] {
                let url = server.url().replace(&server.addr().to_string(), &addr.to_string());
                let builder = RedisBuilder::from_url(&url).unwrap().prefix(prefix());
                let cache = builder.op_timeout(OP_TIMEOUT).resp3(resp3).build().unwrap();
                eventually("it is stored", PATIENT, async || put(&cache, "k", "v").await.is_ok())
                    .await;
                for nonsense in KINDS {
                    let start = *start.get_or_insert_with(resident);
                    let memory = Memory::watch();
                    meets(&hostile, &cache, nonsense).await;
                    let more = memory.most.load(Ordering::Relaxed).saturating_sub(start);
                    println!("{nonsense}: {} KiB", more >> 10);
                    assert!(more <= MOST, "{nonsense}: {} MiB", more >> 20);
                }
            }
        });
    });
}
