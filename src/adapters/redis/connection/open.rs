//! Opens a connection to an endpoint.

use super::calls::Drive;
use super::driven::DrivenConnection;
use super::endpoint::Endpoint;
use super::login::log_in;
use super::resp::Bounds;
use super::socket::Socket;
use super::tcp::set_up;
use super::tracking::Tracking;
use crate::adapters::redis::errors::{Failure, of_farewell};
use futures_util::future::select_ok;
use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::Instant;

/// How a connection is opened, and by when.
#[derive(Clone, Copy)]
pub(super) struct Opening<'f> {
    pub(super) bounds: Bounds,
    pub(super) drive: Drive,
    /// Hears what the server sends without being asked.
    pub(super) tracking: &'f Arc<Tracking>,
    pub(super) deadline: Instant,
    pub(super) progress: &'f Progress,
}

/// How far a connection is that is being opened: the error of a call that waits too long says it.
#[derive(Debug, Default)]
pub(in crate::adapters::redis) struct Progress(AtomicU8);

const ADDRESS: u8 = 0;
#[cfg(feature = "tls")]
const HANDSHAKE: u8 = 1;
const LOGIN: u8 = 2;

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

/// Opens a connection and logs in.
pub(super) async fn open(
    endpoint: &Endpoint,
    opening: Opening<'_>,
) -> Result<DrivenConnection, Failure> {
    opening.progress.reach(ADDRESS);
    let socket = open_socket(endpoint, opening.progress).await?;
    opening.progress.reach(LOGIN);
    let Opening { bounds, drive, tracking, .. } = opening;
    let connection = DrivenConnection::new(socket, bounds, drive, tracking.clone());
    let asked = Instant::now();
    log_in(&connection, endpoint, opening.deadline).await.map_err(|failure| {
        let is_closed = !failure.answered;
        let failure = explained(failure, &connection);
        if is_closed && !endpoint.tls { before_an_answer(failure) } else { failure }
    })?;
    // Large values fill packets of their own.
    if drive == Drive::ByCallers {
        connection.hold_small_commands_if_at_hand(asked.elapsed())?;
    }
    Ok(connection)
}

async fn open_socket(endpoint: &Endpoint, _progress: &Progress) -> Result<Socket, Failure> {
    #[cfg(unix)]
    if let Some(path) = &endpoint.unix_socket {
        let stream = tokio::net::UnixStream::connect(path).await?;
        return Ok(Socket::Unix(stream));
    }
    let stream = reach(&endpoint.host, endpoint.port).await?;
    set_up(&stream)?;
    #[cfg(feature = "tls")]
    if endpoint.tls {
        _progress.reach(HANDSHAKE);
        let ca_cert = endpoint.ca_cert.as_deref();
        let stream = super::tls::encrypt(stream, &endpoint.host, ca_cert).await?;
        return Ok(Socket::Tls(Box::new(stream)));
    }
    Ok(Socket::Tcp(stream))
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

/// The failure, with what the server said before it closed a connection that had just been opened.
pub(super) fn explained(failure: Failure, connection: &DrivenConnection) -> Failure {
    if failure.answered {
        return failure;
    }
    connection.take_first_error().and_then(|line| of_farewell(&line)).unwrap_or(failure)
}

/// A server that speaks TLS closes a connection that begins otherwise, without a word that reaches
/// us.
fn before_an_answer(failure: Failure) -> Failure {
    let Some(cause) = failure.error.source().map(ToString::to_string) else {
        return failure;
    };
    let cause =
        format!("{cause}, before the login was answered (with TLS the scheme is `rediss:`)");
    Failure { error: failure.error.clone().with_source(cause), ..failure }
}
