//! memcached for tests.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::lock;
use super::server::{self, Launch, Server};
use super::wire::{Endpoint, Wire};

/// Points [`Memcached::shared`] at a server that runs already: `memcached://host:port`.
pub(crate) const URL_VARIABLE: &str = "LARDER_TEST_MEMCACHED_URL";

const PATIENCE: Duration = Duration::from_secs(60);

/// Arguments for servers on which much is refused: little memory, none that is taken back from
/// older values (errors in place of evictions), small items, few connections.
pub(crate) const AWKWARD: [&[&str]; 4] =
    [&["-m", "8"], &["-m", "8", "-M"], SMALL_ITEMS, FEW_CONNECTIONS];
/// Items of 8 kB at most.
pub(crate) const SMALL_ITEMS: &[&str] = &["-I", "8k", "-o", "slab_chunk_max=8192"];
/// The server needs files of its own: this leaves seven connections. One thread takes all of them.
pub(crate) const FEW_CONNECTIONS: &[&str] = &["-c", "20", "-t", "1"];

/// A memcached server and a raw view of it.
///
/// Process control (`kill`, `freeze`, `restart`, …) comes from [`Server`]. The raw view keeps one
/// connection, which counts in `curr_connections`.
pub(crate) struct Memcached {
    server: Option<Server>,
    url: String,
    endpoint: Endpoint,
    helper: Mutex<Option<(u64, Wire)>>,
}

impl Memcached {
    /// A server of its own on a free port.
    pub(crate) fn start() -> Memcached {
        Memcached::open(false, &[])
    }

    /// The same with more arguments, such as `["-I", "2m"]`.
    pub(crate) fn start_with(args: &[&str]) -> Memcached {
        Memcached::open(false, args)
    }

    /// Reached by a Unix socket only.
    pub(crate) fn start_unix() -> Memcached {
        Memcached::open(true, &[])
    }

    /// [`start_unix`](Self::start_unix) with more arguments.
    pub(crate) fn start_unix_with(args: &[&str]) -> Memcached {
        Memcached::open(true, args)
    }

    /// One server for all tests of this process that do not disturb it: the one [`URL_VARIABLE`]
    /// names, or else one started now. Others may use it at the same time, so use keys of your own
    /// and do not count what it holds.
    pub(crate) fn shared() -> &'static Memcached {
        static SHARED: OnceLock<Memcached> = OnceLock::new();
        SHARED.get_or_init(|| match env::var(URL_VARIABLE) {
            Ok(url) if !url.is_empty() => Memcached::external(url),
            _ => Memcached::start(),
        })
    }

    fn open(unix: bool, extra: &[&str]) -> Memcached {
        let dir = server::dir();
        let socket = dir.path().join("memcached.sock");
        let mut fixed: Vec<String> = ["-m", "64"].map(str::to_owned).to_vec();
        // memcached refuses to run as root without `-u`; another user could not write into the
        // directory.
        if fs::metadata(dir.path()).expect("its own directory").uid() == 0 {
            fixed.extend(["-u", "root"].map(str::to_owned));
        }
        fixed.extend(extra.iter().map(ToString::to_string));

        let path = socket.to_str().expect("a temporary directory with a plain name").to_owned();
        let probe = socket.clone();
        let server = Server::start(Launch {
            program: "memcached".into(),
            package: "memcached",
            dir,
            args: Box::new(move |port| {
                let port = port.to_string();
                let place: &[&str] = if unix {
                    &["-s", &path, "-a", "700"]
                } else {
                    &["-l", "127.0.0.1", "-p", &port, "-U", "0"]
                };
                place.iter().map(ToString::to_string).chain(fixed.iter().cloned()).collect()
            }),
            answers: Box::new(move |port, pid| {
                let endpoint = endpoint(unix, &probe, port);
                Wire::open(&endpoint, Duration::from_secs(1))
                    .and_then(|mut wire| stats(&mut wire, "stats"))
                    .is_ok_and(|stats| stats.get("pid") == Some(&pid.to_string()))
            }),
        });
        let endpoint = endpoint(unix, &socket, server.port());
        let url = match &endpoint {
            Endpoint::Tcp(addr) => format!("memcached://{addr}"),
            Endpoint::Unix(path) => format!("memcached+unix://{}", path.display()),
        };
        Memcached { server: Some(server), url, endpoint, helper: Mutex::new(None) }
    }

    fn external(url: String) -> Memcached {
        let host = url.strip_prefix("memcached://").map(|rest| rest.trim_end_matches('/'));
        let addr = host.and_then(|host| host.to_socket_addrs().ok()?.find(SocketAddr::is_ipv4));
        let addr = addr.unwrap_or_else(|| panic!("{URL_VARIABLE} is not memcached://host:port"));
        Memcached { server: None, url, endpoint: Endpoint::Tcp(addr), helper: Mutex::new(None) }
    }

    /// The URL to give to the library.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The TCP address.
    pub(crate) fn addr(&self) -> SocketAddr {
        match &self.endpoint {
            Endpoint::Tcp(addr) => *addr,
            Endpoint::Unix(_) => panic!("this server has no TCP port"),
        }
    }

    /// The Unix socket.
    pub(crate) fn socket(&self) -> &Path {
        match &self.endpoint {
            Endpoint::Unix(path) => path,
            Endpoint::Tcp(_) => panic!("this server has no Unix socket"),
        }
    }

    /// Whether it runs somewhere else ([`URL_VARIABLE`]): then its process cannot be reached.
    pub(crate) fn is_external(&self) -> bool {
        self.server.is_none()
    }

    /// The value stored under a key as the server sees it.
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.get_with_flags(key).map(|(_, value)| value)
    }

    /// The flags and the value.
    pub(crate) fn get_with_flags(&self, key: &str) -> Option<(u32, Vec<u8>)> {
        self.talk(|wire| {
            wire.send(format!("get {key}\r\n").as_bytes())?;
            let mut found = None;
            loop {
                let line = wire.text()?;
                let words: Vec<&str> = line.split(' ').collect();
                match words[..] {
                    ["END"] => return Ok(found),
                    ["VALUE", _, flags, len] => {
                        let flags = flags.parse().map_err(io::Error::other)?;
                        found = Some((flags, wire.block(len.parse().map_err(io::Error::other)?)?));
                    }
                    _ => return Err(io::Error::other(line)),
                }
            }
        })
    }

    /// Stores a value as another client would; `expiry` in the protocol's own meaning. The answer,
    /// such as `STORED`.
    pub(crate) fn set(&self, key: &str, flags: u32, expiry: i64, value: &[u8]) -> String {
        self.talk(|wire| {
            let mut request =
                format!("set {key} {flags} {expiry} {}\r\n", value.len()).into_bytes();
            request.extend(value);
            request.extend(b"\r\n");
            wire.send(&request)?;
            wire.text()
        })
    }

    /// Sends a line whose answer is one line (`version`, `flush_all`, `delete KEY`, `incr KEY 1`,
    /// …). Panics if no answer comes.
    pub(crate) fn command(&self, line: &str) -> String {
        self.talk(|wire| one_line(wire, line))
    }

    /// [`command`](Self::command) for a server that may be down or frozen.
    pub(crate) fn try_command(&self, line: &str) -> io::Result<String> {
        self.try_talk(|wire| one_line(wire, line))
    }

    /// `stats`, by name.
    pub(crate) fn stats(&self) -> BTreeMap<String, String> {
        self.talk(|wire| stats(wire, "stats"))
    }

    /// One number of `stats`; panics when the server does not have it.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        let stats = self.stats();
        stats
            .get(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("stats has no number {name}"))
    }

    /// Every key it holds, as the server's crawler sees them (it may miss those of the last
    /// moments).
    pub(crate) fn keys(&self) -> Vec<String> {
        self.talk(|wire| {
            wire.send(b"lru_crawler metadump all\r\n")?;
            let mut keys = Vec::new();
            loop {
                let line = wire.text()?;
                if line == "END" {
                    return Ok(keys);
                }
                let key = line.strip_prefix("key=").and_then(|rest| rest.split(' ').next());
                keys.push(key.ok_or_else(|| io::Error::other(line.clone()))?.to_owned());
            }
        })
    }

    fn talk<T>(&self, exchange: impl FnOnce(&mut Wire) -> io::Result<T>) -> T {
        self.try_talk(exchange).unwrap_or_else(|error| panic!("memcached does not answer: {error}"))
    }

    fn try_talk<T>(&self, exchange: impl FnOnce(&mut Wire) -> io::Result<T>) -> io::Result<T> {
        let mut helper = lock(&self.helper);
        let starts = self.server.as_ref().map_or(0, Server::starts);
        // Taken out, and put back only when the answer was whole.
        let kept = helper.take().filter(|(made, _)| *made == starts);
        let mut wire = match kept {
            Some((_, wire)) => wire,
            None => Wire::open(&self.endpoint, PATIENCE)?,
        };
        let answer = exchange(&mut wire)?;
        *helper = Some((starts, wire));
        Ok(answer)
    }
}

impl Deref for Memcached {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.server.as_ref().expect("this test needs a server of its own: Memcached::start()")
    }
}

fn endpoint(unix: bool, socket: &Path, port: u16) -> Endpoint {
    if unix {
        Endpoint::Unix(PathBuf::from(socket))
    } else {
        Endpoint::Tcp(([127, 0, 0, 1], port).into())
    }
}

fn one_line(wire: &mut Wire, line: &str) -> io::Result<String> {
    wire.send(format!("{line}\r\n").as_bytes())?;
    wire.text()
}

fn stats(wire: &mut Wire, command: &str) -> io::Result<BTreeMap<String, String>> {
    wire.send(format!("{command}\r\n").as_bytes())?;
    let mut stats = BTreeMap::new();
    loop {
        let line = wire.text()?;
        if line == "END" {
            return Ok(stats);
        }
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let ["STAT", name, value] = words[..] else {
            return Err(io::Error::other(line));
        };
        stats.insert(name.to_owned(), value.to_owned());
    }
}
