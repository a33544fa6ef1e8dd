//! A TCP proxy whose faults are switched while it runs.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinSet};
use tokio::time::{self, Instant};

use super::server::free_port;

/// Repeats a run: the seed a failed run printed.
pub(crate) const SEED_VARIABLE: &str = "LARDER_TEST_SEED";

/// As many chunks are in flight in one direction at most; then the sender waits, as it would for a
/// full window.
const CHUNKS: usize = 4096;
const CHUNK_BYTES: usize = 16 * 1024;

/// A proxy in front of one address, on a thread and a runtime of its own. Stops on drop,
/// connections included.
///
/// A switch takes effect for bytes that have not been forwarded yet, on connections that exist and
/// on new ones.
pub(crate) struct Proxy {
    addr: SocketAddr,
    seed: u64,
    faults: Arc<Faults>,
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

struct Faults {
    target: Mutex<SocketAddr>,
    slice: AtomicBool,
    duplicate: AtomicBool,
    to_server: AtomicU64,
    to_client: AtomicU64,
    hold: watch::Sender<bool>,
    kept: watch::Sender<Kept>,
    pieces: AtomicUsize,
    accepted: AtomicUsize,
    open: AtomicUsize,
}

impl Faults {
    fn target(&self) -> SocketAddr {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one connection of which something is kept.
#[derive(Default)]
struct Kept {
    what: Option<What>,
    /// What chooses the connection: the first that sends these bytes.
    word: Option<&'static [u8]>,
    connection: Option<u64>,
    /// How often it has sent them.
    sent: usize,
}

/// What is kept of a connection.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Requests,
    Answers,
}

enum Order {
    Refuse(bool, blocking::Sender<()>),
    DropAll(blocking::Sender<()>),
}

/// A direction, and the number of the connection.
#[derive(Clone, Copy)]
enum Way {
    ToServer(u64),
    ToClient(u64),
}

impl Proxy {
    /// A faultless proxy in front of `target`, with a seed from [`SEED_VARIABLE`] or a new one.
    pub(crate) fn start(target: SocketAddr) -> Proxy {
        let given = env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok());
        Proxy::start_seeded(target, given.unwrap_or_else(|| RandomState::new().hash_one(target)))
    }

    /// The same with a seed, which decides where slices are cut.
    pub(crate) fn start_seeded(target: SocketAddr, seed: u64) -> Proxy {
        let faults = Arc::new(Faults {
            target: Mutex::new(target),
            slice: AtomicBool::new(false),
            duplicate: AtomicBool::new(false),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            hold: watch::channel(false).0,
            kept: watch::channel(Kept::default()).0,
            pieces: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let (orders, inbox) = mpsc::unbounded_channel();
        let (ready, bound) = blocking::channel();
        let shared = faults.clone();
        let thread = thread::Builder::new()
            .name("test-proxy".into())
            .spawn(move || {
                let runtime =
                    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(serve(shared, seed, inbox, ready));
            })
            .expect("a thread");
        let addr = bound.recv().expect("the proxy listens");
        eprintln!("proxy {addr} in front of {target}: {SEED_VARIABLE}={seed}");
        Proxy { addr, seed, faults, orders: Some(orders), thread: Some(thread) }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port of [`addr`](Self::addr).
    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The URL of a server, with the proxy's address in place of the server's.
    pub(crate) fn url(&self, of_server: &str) -> String {
        of_server.replace(&self.faults.target().to_string(), &self.addr.to_string())
    }

    /// From now on new connections lead to another server, as those of a name do that has moved.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        *self.faults.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// The seed it was started with.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// How many pieces clients have sent so far.
    pub(crate) fn pieces(&self) -> usize {
        self.faults.pieces.load(Ordering::SeqCst)
    }

    /// Connections accepted so far; refused ones are not among them.
    pub(crate) fn accepted(&self) -> usize {
        self.faults.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.faults.open.load(Ordering::SeqCst)
    }

    /// Cuts everything into pieces of 1 to 7 bytes, or stops doing so.
    pub(crate) fn slice(&self, on: bool) {
        self.faults.slice.store(on, Ordering::SeqCst);
    }

    /// Delays bytes in each direction, without limiting how many are in flight.
    pub(crate) fn delay(&self, to_server: Duration, to_client: Duration) {
        let micros = |delay: Duration| u64::try_from(delay.as_micros()).expect("a short delay");
        self.faults.to_server.store(micros(to_server), Ordering::SeqCst);
        self.faults.to_client.store(micros(to_client), Ordering::SeqCst);
    }

    /// Keeps all bytes, in the middle of a slice too, until [`release`](Self::release). New
    /// connections are accepted.
    pub(crate) fn hold(&self) {
        self.faults.hold.send_replace(true);
    }

    /// Forwards what was held, and goes on.
    pub(crate) fn release(&self) {
        self.faults.hold.send_replace(false);
    }

    /// Keeps all answers to the first connection that sends `word`, from that answer on, until
    /// [`release_kept`](Self::release_kept).
    pub(crate) fn keep_answers_after(&self, word: &'static [u8]) {
        self.keep(What::Answers, word);
    }

    /// Keeps what the first connection that sends `word` sends, the word included, until
    /// [`release_kept`](Self::release_kept). It arrives even if the client has closed the
    /// connection.
    pub(crate) fn keep_requests_from(&self, word: &'static [u8]) {
        self.keep(What::Requests, word);
    }

    fn keep(&self, what: What, word: &'static [u8]) {
        let (what, word) = (Some(what), Some(word));
        self.faults.kept.send_replace(Kept { what, word, ..Kept::default() });
    }

    /// How often the connection of which something is kept has sent the word.
    pub(crate) fn sent(&self) -> usize {
        self.faults.kept.borrow().sent
    }

    /// Forwards what was kept, and goes on.
    pub(crate) fn release_kept(&self) {
        self.faults.kept.send_replace(Kept::default());
    }

    /// Closes all connections; they are closed when it returns.
    pub(crate) fn drop_all(&self) {
        self.order(Order::DropAll);
    }

    /// Closes the port, so that connects are refused by the kernel, or opens it again. Connections
    /// that exist stay.
    pub(crate) fn refuse(&self, on: bool) {
        self.order(|done| Order::Refuse(on, done));
    }

    /// Sends the next chunk from the server to a client twice, once.
    pub(crate) fn duplicate_once(&self) {
        self.faults.duplicate.store(true, Ordering::SeqCst);
    }

    fn order(&self, order: impl FnOnce(blocking::Sender<()>) -> Order) {
        let (done, wait) = blocking::channel();
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(order(done)).is_ok());
        assert!(sent && wait.recv().is_ok(), "the proxy on {} has ended", self.addr);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // It ended by a panic, which has been printed, or as it should.
            let _ = thread.join();
        }
    }
}

async fn serve(
    faults: Arc<Faults>,
    seed: u64,
    mut orders: mpsc::UnboundedReceiver<Order>,
    ready: blocking::Sender<SocketAddr>,
) {
    let first = listen().await;
    let addr = first.local_addr().expect("a bound socket");
    let mut listener = Some(first);
    let mut connections = JoinSet::new();
    let _ = ready.send(addr);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => return,
                Some(Order::DropAll(done)) => {
                    connections.shutdown().await;
                    let _ = done.send(());
                }
                Some(Order::Refuse(on, done)) => {
                    listener = match (on, listener.take()) {
                        (true, _) => None,
                        (false, Some(listener)) => Some(listener),
                        (false, None) => Some(TcpListener::bind(addr).await.expect("the proxy's port again")),
                    };
                    let _ = done.send(());
                }
            },
            Ok(client) = accept(listener.as_ref()) => {
                let number = faults.accepted.fetch_add(1, Ordering::SeqCst) as u64;
                let guard = Open::new(faults.clone());
                connections.spawn(async move {
                    // An error is a broken connection: dropping both sides is what passes it on.
                    let _ = forward(&guard.0, client, number, seed.wrapping_add(number << 1)).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn listen() -> TcpListener {
    for _ in 0..16 {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).await {
            return listener;
        }
    }
    panic!("no port for a proxy");
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

/// Counts a connection as open for as long as it lives, whichever way it ends.
struct Open(Arc<Faults>);

impl Open {
    fn new(faults: Arc<Faults>) -> Open {
        faults.open.fetch_add(1, Ordering::SeqCst);
        Open(faults)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn forward(faults: &Faults, client: TcpStream, number: u64, seed: u64) -> io::Result<()> {
    let server = TcpStream::connect(faults.target()).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (up, down) = (Way::ToServer(number), Way::ToClient(number));
    let up = pump(faults, up, from_client, to_server, Random(seed));
    let down = pump(faults, down, from_server, to_client, Random(seed.wrapping_add(1)));
    tokio::pin!(down);
    tokio::select! {
        // A server that closes is gone; a client may close its half and still wait for the answer.
        ended = &mut down => ended,
        ended = up => {
            ended?;
            down.await
        }
    }
}

/// One direction. Reading and writing are apart, so that a delay is a latency and not a limit of
/// throughput.
async fn pump(
    faults: &Faults,
    way: Way,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut random: Random,
) -> io::Result<()> {
    let (sender, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let read = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let len = from.read(&mut buffer).await?;
            if matches!(way, Way::ToServer(_)) {
                faults.pieces.fetch_add(1, Ordering::SeqCst);
            }
            let due = Instant::now() + faults.delay(way);
            // An empty chunk is the end of the stream, delayed and held like any other.
            if sender.send((due, buffer[..len].to_vec())).await.is_err() || len == 0 {
                return Ok::<_, io::Error>(());
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = queue.recv().await {
            time::sleep_until(due).await;
            faults.released().await;
            match way {
                Way::ToServer(connection) => {
                    faults.look_for_word(connection, &chunk);
                    faults.not_kept(connection, What::Requests).await;
                }
                Way::ToClient(connection) => faults.not_kept(connection, What::Answers).await,
            }
            if chunk.is_empty() {
                break;
            }
            faults.write(&mut to, &chunk, &mut random).await?;
            if matches!(way, Way::ToClient(_)) && faults.duplicate.swap(false, Ordering::SeqCst) {
                faults.write(&mut to, &chunk, &mut random).await?;
            }
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write)?;
    Ok(())
}

impl Faults {
    fn delay(&self, way: Way) -> Duration {
        let delay = match way {
            Way::ToServer(_) => &self.to_server,
            Way::ToClient(_) => &self.to_client,
        };
        Duration::from_micros(delay.load(Ordering::SeqCst))
    }

    async fn released(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.hold.subscribe().wait_for(|held| !held).await;
    }

    /// Before the bytes go on, so that their answer is kept as well.
    fn look_for_word(&self, connection: u64, bytes: &[u8]) {
        self.kept.send_if_modified(|kept| {
            let Some(word) = kept.word else { return false };
            let sent = bytes.windows(word.len()).filter(|window| *window == word).count();
            let counts = sent > 0 && *kept.connection.get_or_insert(connection) == connection;
            if counts {
                kept.sent += sent;
            }
            counts
        });
    }

    async fn not_kept(&self, connection: u64, what: What) {
        let is_free = |kept: &Kept| kept.connection != Some(connection) || kept.what != Some(what);
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.kept.subscribe().wait_for(is_free).await;
    }

    async fn write(
        &self,
        to: &mut OwnedWriteHalf,
        mut bytes: &[u8],
        random: &mut Random,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            if *self.hold.borrow() {
                self.released().await;
            }
            if !self.slice.load(Ordering::SeqCst) {
                return to.write_all(bytes).await;
            }
            let (piece, rest) = bytes.split_at(random.up_to(7).min(bytes.len()));
            to.write_all(piece).await?;
            bytes = rest;
            task::yield_now().await;
        }
        Ok(())
    }
}

/// `SplitMix64`: small, and the same in every version of this program.
struct Random(u64);

impl Random {
    /// From 1 to `max`.
    fn up_to(&mut self, max: u64) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % max).expect("small") + 1
    }
}
