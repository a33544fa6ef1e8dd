//! A blocking connection for looking behind the library's back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

trait Duplex: Read + Write + Send {}
impl<S: Read + Write + Send> Duplex for S {}

/// Lines and counted bytes over TCP or a Unix socket. No call waits longer than the patience it was
/// opened with.
pub(crate) struct Wire(BufReader<Box<dyn Duplex>>);

impl Wire {
    pub(crate) fn open(endpoint: &Endpoint, patience: Duration) -> io::Result<Wire> {
        let stream: Box<dyn Duplex> = match endpoint {
            Endpoint::Tcp(addr) => {
                let stream = TcpStream::connect_timeout(addr, patience)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                Box::new(stream)
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(patience))?;
                stream.set_write_timeout(Some(patience))?;
                Box::new(stream)
            }
        };
        Ok(Wire(BufReader::new(stream)))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)?;
        self.0.get_mut().flush()
    }

    /// The next line without its end: CRLF, or the bare LF of memcached's `metadump`.
    pub(crate) fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.pop_if(|last| *last == b'\r');
        Ok(line)
    }

    /// The next line as text.
    pub(crate) fn text(&mut self) -> io::Result<String> {
        String::from_utf8(self.line()?).map_err(io::Error::other)
    }

    /// `len` bytes and the CRLF after them.
    pub(crate) fn block(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len + 2];
        self.0.read_exact(&mut bytes)?;
        if !bytes.ends_with(b"\r\n") {
            return Err(io::Error::other("no CRLF after a block"));
        }
        bytes.truncate(len);
        Ok(bytes)
    }
}
