//! A server that sends what no server sends, in front of a real one.

use super::alone::resident;
use super::values::PATIENT;
use super::{eventually, lock};
use larder::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fmt, io};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What takes the place of an answer: this once, and then that again and again for as long as it is
/// read.
#[derive(Clone, Copy)]
pub(crate) struct Nonsense {
    pub(crate) first: &'static [u8],
    pub(crate) then: &'static [u8],
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

pub(crate) const fn endless(first: &'static [u8], then: &'static [u8]) -> Nonsense {
    Nonsense { first, then, pause: Duration::ZERO }
}

pub(crate) const fn slow(first: &'static [u8], then: &'static [u8]) -> Nonsense {
    Nonsense { first, then, pause: Duration::from_millis(5) }
}

pub(crate) const LONG: &[u8] = &[b'a'; 4096];

/// Between a real server and the cache: while there is nonsense, it takes the place of the answer
/// to a request with a certain word.
pub(crate) struct Hostile {
    target: SocketAddr,
    /// The word, and what is sent then.
    nonsense: Mutex<Option<(&'static [u8], Nonsense)>>,
    /// Connections on which nonsense is sent now, and how many there have been.
    sending: AtomicUsize,
    sent: AtomicUsize,
}

impl Hostile {
    pub(crate) async fn start(target: SocketAddr) -> (Arc<Self>, SocketAddr) {
        let (sending, sent) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let hostile = Arc::new(Self { target, nonsense: Mutex::new(None), sending, sent });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
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

    /// Makes a call. During the call nonsense takes the place of the answer to a request with `word`,
    /// and there has to be such a request.
    pub(crate) async fn during<T>(
        &self,
        call: impl Future<Output = T>,
        word: &'static [u8],
        nonsense: Nonsense,
    ) -> T {
        let before = self.sent.load(Ordering::SeqCst);
        *lock(&self.nonsense) = Some((word, nonsense));
        let answer = call.await;
        *lock(&self.nonsense) = None;
        assert!(
            self.sent.load(Ordering::SeqCst) > before,
            "{nonsense}, to `{}`: never sent",
            word.escape_ascii()
        );
        answer
    }

    /// Waits until no nonsense is read any more.
    pub(crate) async fn is_heard_no_more(&self) {
        eventually("the nonsense is read no more", PATIENT, async || {
            self.sending.load(Ordering::SeqCst) == 0
        })
        .await;
    }

    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let mut server = TcpStream::connect(self.target).await?;
        let (mut asked, mut answered) = (vec![0; 16 << 10], vec![0; 16 << 10]);
        loop {
            tokio::select! {
                len = client.read(&mut asked) => {
                    let asked = &asked[..len?];
                    let nonsense = *lock(&self.nonsense);
                    match nonsense {
                        _ if asked.is_empty() => return Ok(()),
                        Some((word, nonsense)) if has(asked, word) => {
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

fn has(requests: &[u8], word: &[u8]) -> bool {
    requests.windows(word.len()).any(|window| window == word)
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

/// Whether an error says that a server is away, late, or not understood.
pub(crate) fn is_of_backend(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Backend)
}

/// Checks that the process never has much more memory during `work` than it had at the start.
pub(crate) async fn in_little_memory(
    start: u64,
    what: impl fmt::Display,
    work: impl Future<Output = ()>,
) {
    let memory = Memory::watch();
    work.await;
    let more = memory.most().saturating_sub(start);
    println!("{what}: {} KiB", more >> 10);
    assert!(more <= MOST, "{what}: {} MiB", more >> 20);
}

/// How much more memory the process may ever have.
const MOST: u64 = 64 << 20;

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

    /// In bytes.
    fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.go.store(false, Ordering::Relaxed);
    }
}
