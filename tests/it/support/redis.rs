//! redis-server (or another that speaks its protocol) for tests.

use std::env;
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

use super::lock;
use super::server::{self, Launch, Server};
use super::wire::{Endpoint, Wire};

/// Points [`Redis::shared`] at a server that runs already:
/// `redis://[user][:password]@host:port[/db]`.
pub(crate) const URL_VARIABLE: &str = "LARDER_TEST_REDIS_URL";
/// The program to start instead of `redis-server`: `valkey-server`, or the path of another version.
pub(crate) const PROGRAM_VARIABLE: &str = "LARDER_TEST_REDIS_SERVER";

/// The name under which the helper's own connection stands in `CLIENT LIST`.
const HELPER: &str = "larder-test-helper";
const PATIENCE: Duration = Duration::from_secs(60);

/// A redis server and a raw view of it.
///
/// Process control (`kill`, `freeze`, `restart`, …) comes from [`Server`]. The raw view goes over a
/// Unix socket that every server started here also has, on one connection that is kept, so it
/// counts in no test that counts connections.
pub(crate) struct Redis {
    server: Option<Server>,
    url: String,
    addr: Option<SocketAddr>,
    socket: Option<PathBuf>,
    access: Access,
    helper: Mutex<Option<(u64, Wire)>>,
}

#[derive(Clone)]
struct Access {
    endpoint: Endpoint,
    user: Option<String>,
    password: Option<String>,
    database: u32,
}

#[derive(Clone, Copy)]
enum Door {
    Tcp,
    Unix,
    Tls,
}

/// Whether a server was built with TLS. Without certificates it does not start with it in any case,
/// and says what it lacks.
fn speaks_tls(program: &str) -> bool {
    let dir = server::dir();
    let mut command = std::process::Command::new(program);
    command.args(["--port", "0", "--tls-port", &server::free_port().to_string(), "--save", ""]);
    let output = command.current_dir(dir.path()).output().expect("the server starts");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    !said.contains("Failed finding TLS support") && !said.contains("Bad directive")
}

impl Redis {
    /// A server of its own on a free port.
    pub(crate) fn start() -> Redis {
        Redis::open(Door::Tcp, &[])
    }

    /// The same with more arguments, such as `["--requirepass", "secret"]` (which the URL and the
    /// raw view then know).
    pub(crate) fn start_with(args: &[&str]) -> Redis {
        Redis::open(Door::Tcp, args)
    }

    /// Reached by a Unix socket only.
    pub(crate) fn start_unix() -> Redis {
        Redis::open(Door::Unix, &[])
    }

    /// [`start_unix`](Self::start_unix) with more arguments.
    pub(crate) fn start_unix_with(args: &[&str]) -> Redis {
        Redis::open(Door::Unix, args)
    }

    /// Reached by TLS only, with a certificate for `localhost` and `127.0.0.1` under a new
    /// authority: [`ca_path`](Self::ca_path).
    pub(crate) fn start_tls() -> Redis {
        Redis::open(Door::Tls, &[])
    }

    /// [`start_tls`](Self::start_tls); `None`, and a line that says so, where [`PROGRAM_VARIABLE`]
    /// names a server that was built without TLS.
    pub(crate) fn try_start_tls() -> Option<Redis> {
        let Ok(program) = env::var(PROGRAM_VARIABLE) else { return Some(Redis::start_tls()) };
        if !speaks_tls(&program) {
            println!("skipped: {program} was built without TLS");
            return None;
        }
        Some(Redis::start_tls())
    }

    /// [`start_tls`](Self::start_tls) with more arguments.
    pub(crate) fn start_tls_with(args: &[&str]) -> Redis {
        Redis::open(Door::Tls, args)
    }

    /// In cluster mode: one node that has all slots.
    pub(crate) fn start_cluster() -> Redis {
        let server = Redis::start_with(&["--cluster-enabled", "yes"]);
        let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
        let mut assign = vec!["CLUSTER", "ADDSLOTS"];
        assign.extend(slots.iter().map(String::as_str));
        server.text(&assign);
        super::wait_until("the cluster has its slots", PATIENCE, || {
            server.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
        });
        server
    }

    /// A replica of this server, which only reads.
    pub(crate) fn start_replica(&self) -> Redis {
        let replica = Redis::start();
        replica.text(&["REPLICAOF", "127.0.0.1", &self.addr().port().to_string()]);
        super::wait_until("the replica follows", PATIENCE, || {
            replica.info("master_link_status") == "up"
        });
        replica
    }

    /// A new user with all rights but what `rules` take away (`-eval -evalsha`): name and password.
    pub(crate) fn user(&self, rules: &str) -> (String, String) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("user{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let password = format!("secret-of-{name}");
        let login = format!(">{password}");
        let mut set = vec!["ACL", "SETUSER", &name, "on", &login, "~*", "&*", "+@all"];
        set.extend(rules.split_whitespace());
        self.text(&set);
        (name, password)
    }

    /// Makes the server refuse all writes until [`save_again`](Self::save_again), for it cannot
    /// save what it holds (`MISCONF`).
    pub(crate) fn cannot_save(&self) {
        // Where the file is to be stands a directory.
        fs::create_dir_all(self.dir().join("dump.rdb")).expect("a directory");
        self.text(&["CONFIG", "SET", "save", "3600 1"]);
        self.text(&["BGSAVE"]);
        super::wait_until("saving has failed", PATIENCE, || {
            self.info("rdb_last_bgsave_status") == "err"
        });
    }

    /// Ends what [`cannot_save`](Self::cannot_save) began.
    pub(crate) fn save_again(&self) {
        self.text(&["CONFIG", "SET", "save", ""]);
    }

    /// One server for all tests of this process that do not disturb it: the one [`URL_VARIABLE`]
    /// names, or else one started now. Others may use it at the same time, so use keys of your own
    /// and do not count what it holds.
    pub(crate) fn shared() -> &'static Redis {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(|| match env::var(URL_VARIABLE) {
            Ok(url) if !url.is_empty() => Redis::external(url),
            _ => Redis::start(),
        })
    }

    fn open(door: Door, extra: &[&str]) -> Redis {
        let dir = server::dir();
        let socket = dir.path().join("redis.sock");
        let mut fixed =
            words("--save|--appendonly|no|--daemonize|no|--bind|127.0.0.1|--unixsocketperm|700");
        fixed.insert(1, String::new());
        fixed.extend(["--dir".into(), path(dir.path()), "--unixsocket".into(), path(&socket)]);
        if matches!(door, Door::Tls) {
            certificates(dir.path());
            for (option, file) in [
                ("--tls-cert-file", "cert.pem"),
                ("--tls-key-file", "key.pem"),
                ("--tls-ca-cert-file", "ca.pem"),
            ] {
                fixed.extend([option.into(), path(&dir.path().join(file))]);
            }
            fixed.extend(words("--tls-auth-clients|no"));
        }
        fixed.extend(extra.iter().map(ToString::to_string));

        let password =
            extra.windows(2).find(|pair| pair[0] == "--requirepass").map(|pair| pair[1].to_owned());
        let login = password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        let access =
            Access { endpoint: Endpoint::Unix(socket.clone()), user: None, password, database: 0 };

        let (plain, secure) = (matches!(door, Door::Tcp), matches!(door, Door::Tls));
        let probe = access.clone();
        let server = Server::start(Launch {
            program: env::var(PROGRAM_VARIABLE).unwrap_or_else(|_| "redis-server".into()),
            package: "redis-server",
            dir,
            args: Box::new(move |port| {
                let mut args = vec!["--port".to_owned(), if plain { port } else { 0 }.to_string()];
                if secure {
                    args.extend(["--tls-port".to_owned(), port.to_string()]);
                }
                args.extend(fixed.iter().cloned());
                args
            }),
            // The socket lies in the server's own directory, so no other server answers there;
            // redis opens it after the ports, so they are open as well.
            answers: Box::new(move |_, _| {
                probe
                    .connect(Duration::from_secs(1))
                    .and_then(|mut wire| exchange(&mut wire, &["PING"]))
                    .is_ok_and(|reply| matches!(reply, Reply::Simple(pong) if pong == "PONG"))
            }),
        });

        let (url, addr) = match door {
            Door::Tcp => (format!("redis://{login}{}", server.addr()), Some(server.addr())),
            Door::Tls => (format!("rediss://{login}{}", server.addr()), Some(server.addr())),
            Door::Unix => (format!("redis+unix://{login}{}", socket.display()), None),
        };
        Redis {
            server: Some(server),
            url,
            addr,
            socket: Some(socket),
            access,
            helper: Mutex::new(None),
        }
    }

    fn external(url: String) -> Redis {
        let access = Access::parse(&url).unwrap_or_else(|| {
            panic!("{URL_VARIABLE} is not redis://[user][:password]@host:port[/db]")
        });
        let Endpoint::Tcp(addr) = access.endpoint else { unreachable!("only TCP is parsed") };
        Redis {
            server: None,
            url,
            addr: Some(addr),
            socket: None,
            access,
            helper: Mutex::new(None),
        }
    }

    /// The URL to give to the library.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The TCP (or TLS) address.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr.expect("this server has no TCP port")
    }

    /// The Unix socket, which every server started here has.
    pub(crate) fn socket(&self) -> &Path {
        self.socket.as_deref().expect("a server that was not started here")
    }

    /// The file with the certificate of the authority that signed the server's.
    pub(crate) fn ca_path(&self) -> PathBuf {
        self.dir().join("ca.pem")
    }

    /// The same as PEM text.
    pub(crate) fn ca_pem(&self) -> String {
        fs::read_to_string(self.ca_path()).expect("the certificate can be read")
    }

    /// Whether it runs somewhere else ([`URL_VARIABLE`]): then its process cannot be reached.
    pub(crate) fn is_external(&self) -> bool {
        self.server.is_none()
    }

    /// Sends one command and panics if no answer comes. An error the server answers is a
    /// [`Reply::Error`].
    pub(crate) fn command<A: AsRef<[u8]>>(&self, args: &[A]) -> Reply {
        self.try_command(args).unwrap_or_else(|error| panic!("redis does not answer: {error}"))
    }

    /// Sends one command, for a server that may be down or frozen.
    pub(crate) fn try_command<A: AsRef<[u8]>>(&self, args: &[A]) -> io::Result<Reply> {
        let mut helper = lock(&self.helper);
        let starts = self.server.as_ref().map_or(0, Server::starts);
        // Taken out, and put back only when the answer was whole.
        let kept = helper.take().filter(|(made, _)| *made == starts);
        let mut wire = match kept {
            Some((_, wire)) => wire,
            None => self.access.connect(PATIENCE)?,
        };
        let reply = exchange(&mut wire, args)?;
        *helper = Some((starts, wire));
        Ok(reply)
    }

    /// Sends one command and shows the answer as text; an error or nil answer panics.
    pub(crate) fn text<A: AsRef<[u8]>>(&self, args: &[A]) -> String {
        self.command(args).text()
    }

    /// Sends one command whose answer is a number; anything else panics.
    pub(crate) fn int<A: AsRef<[u8]>>(&self, args: &[A]) -> i64 {
        self.command(args).int()
    }

    /// One field of `INFO`; panics when the server does not have it.
    pub(crate) fn info(&self, field: &str) -> String {
        let info = self.text(&["INFO", "everything"]);
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("INFO has no {field}")).to_owned()
    }

    /// `CLIENT LIST` without the helper's own line.
    pub(crate) fn clients(&self) -> Vec<String> {
        let own = format!(" name={HELPER} ");
        self.text(&["CLIENT", "LIST"])
            .lines()
            .filter(|line| !line.contains(&own))
            .map(str::to_owned)
            .collect()
    }
}

impl Deref for Redis {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.server.as_ref().expect("this test needs a server of its own: Redis::start()")
    }
}

impl Access {
    fn parse(url: &str) -> Option<Access> {
        let rest = url.strip_prefix("redis://").or_else(|| url.strip_prefix("valkey://"))?;
        let (login, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Some(Access {
            endpoint: Endpoint::Tcp(host.to_socket_addrs().ok()?.find(SocketAddr::is_ipv4)?),
            user: known(user),
            password: known(password),
            database: if database.is_empty() { 0 } else { database.parse().ok()? },
        })
    }

    fn connect(&self, patience: Duration) -> io::Result<Wire> {
        let mut wire = Wire::open(&self.endpoint, patience)?;
        if let Some(password) = &self.password {
            let user = self.user.as_deref();
            let login: Vec<&str> =
                ["AUTH"].into_iter().chain(user).chain([password.as_str()]).collect();
            exchange(&mut wire, &login)?.succeeded()?;
        }
        if self.database != 0 {
            exchange(&mut wire, &["SELECT", &self.database.to_string()])?.succeeded()?;
        }
        exchange(&mut wire, &["CLIENT", "SETNAME", HELPER])?;
        Ok(wire)
    }
}

/// An answer of the server (RESP2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Reply>),
}

impl Reply {
    /// A string or number as text; panics for the rest.
    pub(crate) fn text(&self) -> String {
        match self {
            Reply::Simple(text) => text.clone(),
            Reply::Int(number) => number.to_string(),
            Reply::Bulk(bytes) => String::from_utf8(bytes.clone()).expect("text"),
            other => panic!("not text: {other:?}"),
        }
    }

    /// A number; panics for the rest.
    pub(crate) fn int(&self) -> i64 {
        match self {
            Reply::Int(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }

    /// The bytes of a value, `None` for nil; panics for the rest.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Bulk(bytes) => Some(bytes),
            Reply::Nil => None,
            other => panic!("not a value: {other:?}"),
        }
    }

    fn succeeded(self) -> io::Result<()> {
        match self {
            Reply::Error(message) => Err(io::Error::other(message)),
            _ => Ok(()),
        }
    }
}

fn exchange<A: AsRef<[u8]>>(wire: &mut Wire, args: &[A]) -> io::Result<Reply> {
    let mut request = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        request.extend(format!("${}\r\n", arg.len()).bytes());
        request.extend(arg);
        request.extend(b"\r\n");
    }
    wire.send(&request)?;
    read_reply(wire)
}

fn read_reply(wire: &mut Wire) -> io::Result<Reply> {
    let line = wire.text()?;
    let (kind, rest) =
        line.split_at_checked(1).ok_or_else(|| io::Error::other("an empty answer"))?;
    let number = || rest.parse::<i64>().map_err(io::Error::other);
    // A negative length is how RESP2 says nil.
    let length = || number().map(|length| usize::try_from(length).ok());
    Ok(match kind {
        "+" => Reply::Simple(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Int(number()?),
        "$" => match length()? {
            Some(length) => Reply::Bulk(wire.block(length)?),
            None => Reply::Nil,
        },
        "*" => match length()? {
            Some(length) => {
                Reply::Array((0..length).map(|_| read_reply(wire)).collect::<io::Result<_>>()?)
            }
            None => Reply::Nil,
        },
        _ => return Err(io::Error::other(format!("not RESP2: {line:?}"))),
    })
}

/// The certificate of an authority that has signed no server's.
pub(crate) fn authority_pem() -> String {
    let dir = server::dir();
    certificates(dir.path());
    fs::read_to_string(dir.path().join("ca.pem")).expect("the certificate can be read")
}

/// Writes `ca.pem`, `cert.pem` and `key.pem`.
fn certificates(dir: &Path) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(DnType::CommonName, "larder test authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key"))
        .expect("an authority");

    let key = KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let server = CertificateParams::new(names)
        .expect("names")
        .signed_by(&key, &authority)
        .expect("a certificate");

    for (file, pem) in
        [("ca.pem", authority.pem()), ("cert.pem", server.pem()), ("key.pem", key.serialize_pem())]
    {
        fs::write(dir.join(file), pem).expect("certificates can be written");
    }
}

fn words(list: &str) -> Vec<String> {
    list.split('|').map(str::to_owned).collect()
}

fn path(path: &Path) -> String {
    path.to_str().expect("a temporary directory with a plain name").to_owned()
}
