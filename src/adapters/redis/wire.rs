//! An open connection, and the task that drives it.

use super::endpoint::{Endpoint, set_up};
use super::errors::Failure;
use futures_util::future::select_ok;
use futures_util::task::AtomicWaker;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// Ends with it. What the driver opened has one that nobody else sees.
    _task: Option<Task>,
}

impl Wire {
    /// Opens one to a server that is not asked to encrypt: only for a stream of ours the driver hands out its task.
    pub(super) async fn open(endpoint: &Endpoint) -> Result<Self, Failure> {
        #[cfg(unix)]
        if let Some(path) = &endpoint.unix_socket {
            let stream = tokio::net::UnixStream::connect(path).await.map_err(RedisError::from)?;
            return Self::over(stream, endpoint).await;
        }
        let stream = reach(&endpoint.host, endpoint.port).await.map_err(RedisError::from)?;
        set_up(&stream).map_err(RedisError::from)?;
        Self::over(stream, endpoint).await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        endpoint: &Endpoint,
    ) -> Result<Self, Failure> {
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&endpoint.login(), stream, config()).await?;
        let traffic = Arc::new(Traffic::default());
        let task = tokio::spawn(drive(driver, traffic.clone())).abort_handle();
        Ok(Self { connection, traffic, _task: Some(Task(task)) })
    }
}

impl From<MultiplexedConnection> for Wire {
    fn from(connection: MultiplexedConnection) -> Self {
        Self { connection, traffic: Arc::default(), _task: None }
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
