//! The address of a server.

use super::socket::Socket;
use crate::error::{Error, Result};
use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpStream, lookup_host};

const DEFAULT_PORT: u16 = 11211;

/// A server's address. It holds no secret, as there is no authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapters::memcached) enum Address {
    Tcp { host: String, port: u16 },
    Unix(String),
}

impl Address {
    /// Reads `host`, `host:port` or `unix:/path`.
    pub(in crate::adapters::memcached) fn parse(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::unix(path.strip_prefix("//").unwrap_or(path));
        }
        if text.contains('@') {
            return Err(Error::config(
                "a memcached URL must not have a user or a password: larder does not authenticate \
                 with memcached",
            ));
        }
        if text.starts_with('[') || text.parse::<Ipv6Addr>().is_ok() {
            return Err(Error::config("a memcached server's address must be IPv4 or a name"));
        }
        let (host, port) = match text.rsplit_once(':') {
            None => (text, Some(DEFAULT_PORT)),
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)),
        };
        let port = port.ok_or_else(|| {
            Error::config("a memcached server's port must be a number from 1 to 65535")
        })?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(Error::config("a memcached server is `host` or `host:port`"));
        }
        // Keep upper and lower case: libmemcached computes the points of its ring from this text.
        Ok(Self::Tcp { host: host.to_owned(), port })
    }

    /// Whether both are the same server: host names are not case-sensitive.
    pub(in crate::adapters::memcached) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp { host, port }, Self::Tcp { host: other, port: other_port }) => {
                port == other_port && host.eq_ignore_ascii_case(other)
            }
            _ => self == other,
        }
    }

    fn unix(path: &str) -> Result<Self> {
        if !path.starts_with('/') || path.len() == 1 {
            return Err(Error::config("the path of a memcached socket must be absolute"));
        }
        // Other clients take the path out of a URL, which would change other characters.
        let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+~,:=@!$&'()*;".contains(&byte);
        if !path.bytes().all(kept) || path.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(Error::config(
                "the path of a memcached socket must be ASCII, without spaces, `%`, `?`, `#` or \
                 `..`",
            ));
        }
        Ok(Self::Unix(path.to_owned()))
    }

    /// Connects. A name is resolved at each call, as it may have changed; its IPv4 addresses are
    /// tried first.
    pub(super) async fn connect(&self) -> io::Result<Socket> {
        match self {
            #[cfg(unix)]
            Self::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
            #[cfg(not(unix))]
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
            Self::Tcp { host, port } => {
                let mut found: Vec<SocketAddr> =
                    lookup_host((host.as_str(), *port)).await?.collect();
                found.sort_by_key(SocketAddr::is_ipv6);
                let stream = TcpStream::connect(&*found).await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
        }
    }

    /// The name of the server on libmemcached's ring.
    pub(in crate::adapters::memcached) fn ring_name(&self) -> String {
        match self {
            Self::Tcp { host, port: DEFAULT_PORT } => host.clone(),
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix(path) => format!("{path}:0"),
        }
    }
}

impl Default for Address {
    fn default() -> Self {
        Self::Tcp { host: "127.0.0.1".to_owned(), port: DEFAULT_PORT }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use tokio::net::TcpListener;

    #[test]
    fn endpoints_are_read() {
        for (text, shown, ring) in [
            ("127.0.0.1", "127.0.0.1:11211", "127.0.0.1"),
            ("Cache-1.local:1", "Cache-1.local:1", "Cache-1.local:1"),
            ("CACHE", "CACHE:11211", "CACHE"),
            ("unix:/tmp/m.sock", "unix:/tmp/m.sock", "/tmp/m.sock:0"),
            ("unix:///tmp/m.sock", "unix:/tmp/m.sock", "/tmp/m.sock:0"),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!((address.to_string().as_str(), address.ring_name().as_str()), (shown, ring));
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in [
            "",
            ":1",
            "host:",
            "host:0",
            "host:70000",
            "a b",
            "[::1]:11211",
            "::1",
            "u:secret@host",
            "unix:",
            "unix:/",
            "unix:/a b",
            "unix:/a/../b",
        ] {
            let error = Address::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!format!("{error:?}").contains("secret"));
        }
    }

    #[tokio::test]
    async fn names_are_looked_up_and_paths_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let address = Address::parse(&format!("localhost:{port}")).expect("a name");
        let socket = address.connect().await.expect("it has an IPv4 address");
        let Socket::Tcp(stream) = socket else { panic!("{socket:?}") };
        assert_eq!(stream.peer_addr().expect("connected").port(), port);
        assert!(stream.nodelay().expect("connected"));
        let missing = Address::Unix("/no/such/socket".into()).connect().await;
        assert_eq!(missing.map(drop).expect_err("no file").kind(), io::ErrorKind::NotFound);
    }
}
