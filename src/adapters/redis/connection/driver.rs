//! An open connection, and the task that drives it.

use super::endpoint::{Endpoint, set_up};
use super::errors::{Failure, of_farewell};
use super::replies::Bounds;
use super::stream::{Farewell, Socket, Watched};
use futures_util::future::select_ok;
use futures_util::task::AtomicWaker;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::{AbortHandle, yield_now};

/// How many commands may wait to be written before callers wait for each other; the driver's own 50 is few for a cache.
const QUEUE: usize = 1024;

/// What is under way is written in as many groups: while the server works on one, another gathers. Measured at 16 tasks: with 2 both
/// wait for each other, with 8 there are too many writes.
const GROUPS: u64 = 4;

/// What a connection is used through.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) connection: MultiplexedConnection,
    pub(super) traffic: Arc<Traffic>,
    /// `None` for what the driver opened.
    socket: Option<Socket>,
    farewell: Farewell,
    /// Ends with it. What the driver opened has one that nobody else sees.
    _task: Option<Task>,
}

/// How far a connection is that is being opened: who has to wait too long is told.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU8);

impl Progress {
    const STEPS: [&str; 3] = [
        "the address does not answer",
        "the server does not answer the TLS handshake: its port may be one without TLS",
        "the server does not answer the login",
    ];

    fn reach(&self, step: u8) {
        self.0.store(step, Ordering::Relaxed);
    }

    /// Why it takes so long.
    pub(super) fn reason(&self) -> &'static str {
        Self::STEPS[usize::from(self.0.load(Ordering::Relaxed)) % Self::STEPS.len()]
    }
}

const ADDRESS: u8 = 0;
#[cfg(feature = "tls")]
const HANDSHAKE: u8 = 1;
const LOGIN: u8 = 2;

impl Wire {
    /// Opens one. Only for a stream of ours the driver hands out its task.
    pub(super) async fn open(
        endpoint: &Endpoint,
        bounds: Bounds,
        progress: &Progress,
    ) -> Result<Self, Failure> {
        progress.reach(ADDRESS);
        let socket = open_socket(endpoint).await.map_err(RedisError::from)?;
        #[cfg(feature = "tls")]
        if endpoint.tls {
            progress.reach(HANDSHAKE);
            let ca_cert = endpoint.ca_cert.as_deref();
            let stream = super::tls::encrypt(socket.clone(), &endpoint.host, ca_cert).await?;
            progress.reach(LOGIN);
            return Self::over(stream, socket, endpoint, bounds).await;
        }
        progress.reach(LOGIN);
        Self::over(socket.clone(), socket, endpoint, bounds).await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        socket: Socket,
        endpoint: &Endpoint,
        bounds: Bounds,
    ) -> Result<Self, Failure> {
        let farewell = Farewell::default();
        let stream = Watched::new(stream, bounds, farewell.clone());
        let opened =
            MultiplexedConnection::new_with_config(&endpoint.login(), stream, config()).await;
        let (connection, driver) = opened.map_err(|cause| {
            let is_closed = cause.is_connection_dropped() || cause.is_io_error();
            let failure = explained(cause.into(), &farewell);
            if is_closed && !endpoint.tls { before_an_answer(failure) } else { failure }
        })?;
        let traffic = Arc::new(Traffic::default());
        let task = tokio::spawn(drive(driver, traffic.clone())).abort_handle();
        Ok(Self { connection, traffic, socket: Some(socket), farewell, _task: Some(Task(task)) })
    }

    /// Whether what is sent now goes to a server that has not closed the connection, as far as is known.
    pub(super) fn is_open_and_quiet(&self) -> bool {
        self.socket.as_ref().is_some_and(Socket::is_open_and_quiet)
    }

    /// Why the server closed a connection that had just been opened, if it said so.
    pub(super) fn explained(&self, failure: Failure) -> Failure {
        explained(failure, &self.farewell)
    }
}

fn explained(failure: Failure, farewell: &Farewell) -> Failure {
    if failure.answered {
        return failure;
    }
    farewell.take().and_then(|line| of_farewell(&line)).unwrap_or(failure)
}

/// A server that speaks TLS closes a connection that begins otherwise, without a word that reaches us.
fn before_an_answer(failure: Failure) -> Failure {
    let Some(cause) = std::error::Error::source(&failure.error).map(ToString::to_string) else {
        return failure;
    };
    let cause =
        format!("{cause}, before the login was answered (with TLS the scheme is `rediss:`)");
    Failure { error: failure.error.clone().with_source(cause), ..failure }
}

async fn open_socket(endpoint: &Endpoint) -> io::Result<Socket> {
    #[cfg(unix)]
    if let Some(path) = &endpoint.unix_socket {
        let stream = tokio::net::UnixStream::connect(path).await?;
        return Ok(Socket::Unix(Arc::new(stream)));
    }
    let stream = reach(&endpoint.host, endpoint.port).await?;
    set_up(&stream)?;
    Ok(Socket::Tcp(Arc::new(stream)))
}

impl From<MultiplexedConnection> for Wire {
    fn from(connection: MultiplexedConnection) -> Self {
        Self {
            connection,
            traffic: Arc::default(),
            socket: None,
            farewell: Farewell::default(),
            _task: None,
        }
    }
}

/// Without deadlines: the one around everything is ours.
pub(super) fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE)
}

/// Whichever of a name's addresses answers first.
async fn reach(host: &str, port: u16) -> io::Result<TcpStream> {
    let attempts: Vec<_> = lookup_host((host, port))
        .await?
        .map(|address| Box::pin(TcpStream::connect(address)))
        .collect();
    if attempts.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(select_ok(attempts).await?.0)
}

/// Runs a driver. A sender wakes it before all who are ready already, and it would write each of their commands by itself: a system
/// call, a packet and a wake-up of the server each. So it rests until enough have come, or nobody else is ready. Nagle's algorithm
/// (RFC 896) would join them too, but not without waiting for the network.
async fn drive(driver: impl Future<Output = ()>, traffic: Arc<Traffic>) {
    let mut driver = pin!(driver);
    loop {
        if traffic.gathers(traffic.begun()) {
            poll_fn(|context| {
                traffic.driver.register(context.waker());
                Poll::Ready(())
            })
            .await;
            yield_now().await;
        }
        traffic.taken.store(traffic.begun(), Ordering::Relaxed);
        if poll_fn(|context| Poll::Ready(driver.as_mut().poll(context).is_ready())).await {
            return;
        }
        let mut woken = false;
        poll_fn(
            |_| if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending },
        )
        .await;
    }
}

/// The commands of a connection, by number.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// The last one that began, and the last one that was answered.
    begun: AtomicU64,
    answered: AtomicU64,
    /// How many were answered or given up.
    ended: AtomicU64,
    /// The last one that had begun when the driver was last at work.
    taken: AtomicU64,
    driver: AtomicWaker,
}

impl Traffic {
    /// The number of a command that begins.
    pub(super) fn begin(&self) -> u64 {
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        if !self.gathers(number) {
            self.driver.wake();
        }
        number
    }

    pub(super) fn answer(&self, number: u64) {
        self.answered.fetch_max(number, Ordering::AcqRel);
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn give_up(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }

    /// Whether some have come since the driver was last at work, but too few to set out.
    fn gathers(&self, begun: u64) -> bool {
        let come = begun.saturating_sub(self.taken.load(Ordering::Relaxed));
        let under_way = begun.saturating_sub(self.ended.load(Ordering::Relaxed));
        come > 0 && come * GROUPS < under_way
    }
}

#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_those_under_way_sets_out() {
        let traffic = Traffic::default();
        let begin = |commands| (0..commands).for_each(|_| _ = traffic.begin());
        let gathers = || traffic.gathers(traffic.begun());
        let take = || traffic.taken.store(traffic.begun(), Ordering::Relaxed);
        assert!(!gathers(), "nothing to gather");
        begin(1);
        assert!(!gathers(), "who is alone waits for nobody");
        take();
        begin(15);
        take();
        assert!(!gathers(), "nothing new: answers are read at once");
        for number in 1..=4 {
            traffic.answer(number);
        }
        begin(3);
        assert!(gathers(), "3 of 15");
        begin(1);
        assert!(!gathers(), "4 of 16");
        take();
        (0..13).for_each(|_| traffic.give_up());
        begin(1);
        assert!(!gathers(), "1 of 4");
    }

    #[tokio::test]
    async fn a_driver_that_rests_goes_on_without_more() {
        let traffic = Arc::new(Traffic::default());
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<bool>();
        let driver = async move { while receiver.recv().await.is_some_and(|last| !last) {} };
        let driving = tokio::spawn(drive(driver, traffic.clone()));
        for last in [false, false, false, false, false, false, false, true] {
            traffic.begin();
            sender.send(last).unwrap();
            yield_now().await;
        }
        driving.await.unwrap();
    }
}
