//! What a connection writes to and reads from: plain, encrypted, or a Unix socket.

use redis::io::tcp::socket2::{SockRef, Socket as Raw};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, tcp};
#[cfg(unix)]
use tokio::net::{UnixStream, unix};

#[cfg(feature = "tls")]
use {
    crate::runtime::lock,
    std::sync::{Arc, Mutex},
    tokio_rustls::client::TlsStream,
};

/// An open stream to a server.
pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<TcpStream>>),
}

/// The half that is read from.
pub(super) enum Incoming {
    Tcp(tcp::OwnedReadHalf),
    #[cfg(unix)]
    Unix(unix::OwnedReadHalf),
    #[cfg(feature = "tls")]
    Tls(Shared),
}

/// The half that is written to. Dropped, it says to the server that nothing more comes.
pub(super) enum Outgoing {
    Tcp(tcp::OwnedWriteHalf),
    #[cfg(unix)]
    Unix(unix::OwnedWriteHalf),
    #[cfg(feature = "tls")]
    Tls(Shared),
}

/// An encrypted stream, whose halves share one state.
#[cfg(feature = "tls")]
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<TlsStream<TcpStream>>>);

impl Socket {
    pub(super) fn split(self) -> (Incoming, Outgoing) {
        match self {
            Self::Tcp(stream) => {
                let (incoming, outgoing) = stream.into_split();
                (Incoming::Tcp(incoming), Outgoing::Tcp(outgoing))
            }
            #[cfg(unix)]
            Self::Unix(stream) => {
                let (incoming, outgoing) = stream.into_split();
                (Incoming::Unix(incoming), Outgoing::Unix(outgoing))
            }
            #[cfg(feature = "tls")]
            Self::Tls(stream) => {
                let shared = Shared(Arc::new(Mutex::new(*stream)));
                (Incoming::Tls(shared.clone()), Outgoing::Tls(shared))
            }
        }
    }
}

impl Incoming {
    /// Whether it is open and nothing waits to be read, as the system knows now. The runtime may
    /// not have heard of an end yet.
    pub(super) fn is_open_and_quiet(&self) -> bool {
        match self {
            Self::Tcp(half) => has_nothing_to_read(&SockRef::from(half.as_ref())),
            #[cfg(unix)]
            Self::Unix(half) => has_nothing_to_read(&SockRef::from(half.as_ref())),
            #[cfg(feature = "tls")]
            Self::Tls(Shared(stream)) => {
                has_nothing_to_read(&SockRef::from(lock(stream).get_ref().0))
            }
        }
    }
}

impl Outgoing {
    /// What `look` says of the TCP connection; `None` where there is none.
    pub(super) fn with_tcp<T>(&self, look: impl FnOnce(&TcpStream) -> T) -> Option<T> {
        match self {
            Self::Tcp(half) => Some(look(half.as_ref())),
            #[cfg(unix)]
            Self::Unix(_) => None,
            #[cfg(feature = "tls")]
            Self::Tls(Shared(stream)) => Some(look(lock(stream).get_ref().0)),
        }
    }
}

fn has_nothing_to_read(socket: &Raw) -> bool {
    let peeked = socket.peek(&mut [MaybeUninit::uninit()]);
    matches!(peeked, Err(cause) if cause.kind() == io::ErrorKind::WouldBlock)
}

impl AsyncRead for Incoming {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_read(context, buffer),
            #[cfg(unix)]
            Self::Unix(half) => Pin::new(half).poll_read(context, buffer),
            #[cfg(feature = "tls")]
            Self::Tls(Shared(stream)) => Pin::new(&mut *lock(stream)).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Outgoing {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_write(context, bytes),
            #[cfg(unix)]
            Self::Unix(half) => Pin::new(half).poll_write(context, bytes),
            #[cfg(feature = "tls")]
            Self::Tls(Shared(stream)) => Pin::new(&mut *lock(stream)).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_flush(context),
            #[cfg(unix)]
            Self::Unix(half) => Pin::new(half).poll_flush(context),
            #[cfg(feature = "tls")]
            Self::Tls(Shared(stream)) => Pin::new(&mut *lock(stream)).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_shutdown(context),
            #[cfg(unix)]
            Self::Unix(half) => Pin::new(half).poll_shutdown(context),
            #[cfg(feature = "tls")]
            Self::Tls(Shared(stream)) => Pin::new(&mut *lock(stream)).poll_shutdown(context),
        }
    }
}
