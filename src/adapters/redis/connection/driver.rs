//! An open connection, and the task that drives it.

use super::endpoint::{Endpoint, set_up};
use super::replies::Bounds;
use super::stream::{Farewell, Socket, Watched};
use crate::adapters::redis::errors::{Failure, of_farewell};
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

/// How many commands may wait to be written before callers wait for each other; the driver's own 50
/// is few for a cache.
const QUEUE: usize = 1024;

/// The commands in flight are written in as many groups: while the server works on one, another
/// gathers. Measured at 16 tasks: with 2 both wait for each other, with 8 there are too many
/// writes.
const GROUPS: u64 = 4;

/// What a connection is used through.
#[derive(Debug)]
pub(in crate::adapters::redis) struct DriverHandle {
    pub(in crate::adapters::redis) connection: MultiplexedConnection,
    pub(in crate::adapters::redis) coalescer: Arc<WriteCoalescer>,
    /// `None` for what the driver opened.
    socket: Option<Socket>,
    farewell: Farewell,
    /// Ends with it. What the driver opened has one of its own.
    _task: Option<Task>,
}

/// How far a connection is that is being opened: the error of a call that waits too long says it.
#[derive(Debug, Default)]
pub(in crate::adapters::redis) struct Progress(AtomicU8);

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
    pub(in crate::adapters::redis) fn reason(&self) -> &'static str {
        Self::STEPS[usize::from(self.0.load(Ordering::Relaxed)) % Self::STEPS.len()]
    }
}

const ADDRESS: u8 = 0;
#[cfg(feature = "tls")]
const HANDSHAKE: u8 = 1;
const LOGIN: u8 = 2;

impl DriverHandle {
    /// Opens one. Only for a stream of ours the driver hands out its task.
    pub(in crate::adapters::redis) async fn open(
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
        let coalescer = Arc::new(WriteCoalescer::default());
        let task = tokio::spawn(drive(driver, coalescer.clone())).abort_handle();
        Ok(Self { connection, coalescer, socket: Some(socket), farewell, _task: Some(Task(task)) })
    }

    /// Whether what is sent now goes to a server that has not closed the connection, as far as is
    /// known.
    pub(in crate::adapters::redis) fn is_open_and_quiet(&self) -> bool {
        self.socket.as_ref().is_some_and(Socket::is_open_and_quiet)
    }

    /// Why the server closed a connection that had just been opened, if it said so.
    pub(in crate::adapters::redis) fn explained(&self, failure: Failure) -> Failure {
        explained(failure, &self.farewell)
    }
}

fn explained(failure: Failure, farewell: &Farewell) -> Failure {
    if failure.answered {
        return failure;
    }
    farewell.take().and_then(|line| of_farewell(&line)).unwrap_or(failure)
}

/// A server that speaks TLS closes a connection that begins otherwise, without a word that reaches
/// us.
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

impl From<MultiplexedConnection> for DriverHandle {
    fn from(connection: MultiplexedConnection) -> Self {
        Self {
            connection,
            coalescer: Arc::default(),
            socket: None,
            farewell: Farewell::default(),
            _task: None,
        }
    }
}

/// Without deadlines: the one around everything is ours.
pub(in crate::adapters::redis) fn config() -> AsyncConnectionConfig {
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

/// Runs a driver. tokio runs a woken task first, so the driver would write each command by itself:
/// a system call, a packet and a wake-up of the server each. It waits until enough commands have
/// come, or no other task is ready. Nagle's algorithm (RFC 896) would join them too, but not
/// without waiting for the network.
async fn drive(driver: impl Future<Output = ()>, coalescer: Arc<WriteCoalescer>) {
    let mut driver = pin!(driver);
    loop {
        if coalescer.gathers(coalescer.begun()) {
            poll_fn(|context| {
                coalescer.driver.register(context.waker());
                Poll::Ready(())
            })
            .await;
            yield_now().await;
        }
        coalescer.taken.store(coalescer.begun(), Ordering::Relaxed);
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
pub(in crate::adapters::redis) struct WriteCoalescer {
    /// The last one that began, and the last one that was answered.
    begun: AtomicU64,
    answered: AtomicU64,
    /// How many were answered or given up.
    ended: AtomicU64,
    /// The last one that had begun when the driver was last at work.
    taken: AtomicU64,
    driver: AtomicWaker,
}

impl WriteCoalescer {
    /// The number of a command that begins.
    pub(in crate::adapters::redis) fn begin(&self) -> u64 {
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        if !self.gathers(number) {
            self.driver.wake();
        }
        number
    }

    pub(in crate::adapters::redis) fn answer(&self, number: u64) {
        self.answered.fetch_max(number, Ordering::AcqRel);
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::adapters::redis) fn give_up(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::adapters::redis) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    pub(in crate::adapters::redis) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }

    /// Whether some have come since the driver was last at work, but too few to set out.
    fn gathers(&self, begun: u64) -> bool {
        let come = begun.saturating_sub(self.taken.load(Ordering::Relaxed));
        let in_flight = begun.saturating_sub(self.ended.load(Ordering::Relaxed));
        come > 0 && come * GROUPS < in_flight
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
    fn a_quarter_of_those_in_flight_is_written() {
        let coalescer = WriteCoalescer::default();
        let begin = |commands| (0..commands).for_each(|_| _ = coalescer.begin());
        let gathers = || coalescer.gathers(coalescer.begun());
        let take = || coalescer.taken.store(coalescer.begun(), Ordering::Relaxed);
        assert!(!gathers(), "nothing to gather");
        begin(1);
        assert!(!gathers(), "a single command waits for no other");
        take();
        begin(15);
        take();
        assert!(!gathers(), "nothing new: answers are read at once");
        for number in 1..=4 {
            coalescer.answer(number);
        }
        begin(3);
        assert!(gathers(), "3 of 15");
        begin(1);
        assert!(!gathers(), "4 of 16");
        take();
        (0..13).for_each(|_| coalescer.give_up());
        begin(1);
        assert!(!gathers(), "1 of 4");
    }

    #[tokio::test]
    async fn a_driver_that_rests_goes_on_without_more() {
        let coalescer = Arc::new(WriteCoalescer::default());
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<bool>();
        let driver = async move { while receiver.recv().await.is_some_and(|last| !last) {} };
        let driving = tokio::spawn(drive(driver, coalescer.clone()));
        for last in [false, false, false, false, false, false, false, true] {
            coalescer.begin();
            sender.send(last).unwrap();
            yield_now().await;
        }
        driving.await.unwrap();
    }
}
