//! The bytes beneath a connection: a socket that can be asked after, and what is looked at on its
//! way to the driver.

use super::replies::{Bounds, Replies};
use crate::runtime::lock;
use redis::io::tcp::socket2::SockRef;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// A socket that a driver reads and writes, and others may ask after meanwhile.
#[derive(Clone, Debug)]
pub(in crate::adapters::redis) enum Socket {
    Tcp(Arc<TcpStream>),
    #[cfg(unix)]
    Unix(Arc<UnixStream>),
}

/// The same for each kind of socket.
macro_rules! with {
    ($socket:expr, $stream:ident => $work:expr) => {
        match $socket {
            Socket::Tcp($stream) => $work,
            #[cfg(unix)]
            Socket::Unix($stream) => $work,
        }
    };
}

impl Socket {
    /// Whether it is open and nothing waits to be read, as the system knows now. The runtime may
    /// not have heard of an end yet.
    pub(in crate::adapters::redis) fn is_open_and_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = with!(self, stream => SockRef::from(&**stream).peek(&mut byte));
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        with!(&*self, stream => loop {
            ready!(stream.poll_read_ready(context))?;
            match stream.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with!(&*self, stream => loop {
            ready!(stream.poll_write_ready(context))?;
            match stream.try_write_vectored(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(with!(&*self, stream => SockRef::from(&**stream).shutdown(Shutdown::Write)))
    }
}

/// What a server said before it closed a connection that had just been opened.
#[derive(Clone, Debug, Default)]
pub(in crate::adapters::redis) struct Farewell(Arc<Mutex<Option<String>>>);

impl Farewell {
    pub(in crate::adapters::redis) fn take(&self) -> Option<String> {
        lock(&self.0).take()
    }
}

/// A stream whose replies are looked at.
#[derive(Debug)]
pub(in crate::adapters::redis) struct Watched<S> {
    stream: S,
    replies: Replies,
    farewell: Farewell,
    /// Nothing can be written any more. What the server said before it closed is still to be read.
    is_deaf: bool,
}

impl<S> Watched<S> {
    pub(in crate::adapters::redis) fn new(stream: S, bounds: Bounds, farewell: Farewell) -> Self {
        Self { stream, replies: Replies::new(bounds), farewell, is_deaf: false }
    }

    /// What was not written counts as written: the driver goes on to read, and finds the server's
    /// last words and the end.
    fn written(&mut self, written: io::Result<usize>, len: usize) -> io::Result<usize> {
        written.or_else(|_| {
            self.is_deaf = true;
            Ok(len)
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let looked = this.replies.look(&mut buffer.filled_mut()[before..]);
        if let Some(error) = this.replies.take_first_error() {
            *lock(&this.farewell.0) = Some(error);
        }
        Poll::Ready(looked)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes));
        Poll::Ready(this.written(written, bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_deaf {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut this.stream).poll_flush(context));
        Poll::Ready(this.written(flushed.map(|()| 0), 0).map(drop))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
