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
    /// Reads `host`, `host:port` or `unix:/path`. An IPv6 address stands in brackets.
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
        if let Some(text) = text.strip_prefix('[') {
            let (host, rest) = text.split_once(']').unwrap_or((text, "]"));
            // Behind `%` is the zone, the network interface of a local address.
            let address = host.split_once('%').map_or(host, |(address, _zone)| address);
            let is_address = address.parse::<Ipv6Addr>().is_ok();
            if !is_address || !(rest.is_empty() || rest.starts_with(':')) {
                return Err(Error::config(
                    "an IPv6 address of a memcached server is `[address]` or `[address]:port`",
                ));
            }
            return Self::tcp(host, rest.strip_prefix(':'));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(Error::config(
                "the IPv6 address of a memcached server must be in brackets, as in `[::1]:11211`",
            ));
        }
        let (host, port) = match text.rsplit_once(':') {
            None => (text, None),
            Some((host, port)) => (host, Some(port)),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(Error::config("a memcached server is `host` or `host:port`"));
        }
        Self::tcp(host, port)
    }

    fn tcp(host: &str, port: Option<&str>) -> Result<Self> {
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                Error::config("a memcached server's port must be a number from 1 to 65535")
            })?,
        };
        // Keep upper and lower case: libmemcached computes the points of its ring from this text.
        Ok(Self::Tcp { host: host.to_owned(), port })
    }

    /// Whether both are the same server: host names are not case-sensitive, and an IPv6 address has
    /// several texts.
    pub(in crate::adapters::memcached) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp { host, port }, Self::Tcp { host: other, port: other_port }) => {
                let is_same_host = match (host.parse::<Ipv6Addr>(), other.parse::<Ipv6Addr>()) {
                    (Ok(host), Ok(other)) => host == other,
                    _ => host.eq_ignore_ascii_case(other),
                };
                port == other_port && is_same_host
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
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
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
            ("[::1]", "[::1]:11211", "::1"),
            ("[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.1]:1", "::ffff:10.0.0.1:1"),
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
            "::1",
            "::1:11211",
            "[::1",
            "[::1]11211",
            "[::1]:",
            "[::1]:0",
            "[10.0.0.1]:11211",
            "[host]",
            "[]",
            "[::1]]:1",
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
    async fn an_ipv6_address_is_connected_to() {
        // Not every machine has IPv6.
        let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
        let port = listener.local_addr().expect("bound").port();
        let address = Address::parse(&format!("[::1]:{port}")).expect("an address");
        let socket = address.connect().await.expect("somebody listens");
        assert!(
            matches!(socket, Socket::Tcp(stream) if stream.peer_addr().is_ok_and(|at| at.is_ipv6()))
        );
    }

    #[test]
    fn two_texts_may_name_one_server() {
        let is_same = |one: &str, other: &str| {
            Address::parse(one).expect(one).is_same(&Address::parse(other).expect(other))
        };
        assert!(is_same("a", "A:11211") && is_same("[::1]", "[0:0::1]:11211"));
        assert!(is_same("[fe80::A]", "[fe80::a]") && !is_same("[::1]:1", "[::1]:2"));
        assert!(!is_same("[::1]", "[::2]") && !is_same("[::1]", "localhost"));
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
