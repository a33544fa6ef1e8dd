//! A server process that tests start, kill, freeze and restart.

use std::env;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::lock;

/// Starts the server and kills it when standard input closes. The test process holds the other end
/// of that pipe, so the server dies with it, however it ends: statics are never dropped, and
/// nothing is dropped after a `kill -9`. A line before the end means that a process is left that
/// removes the directory, or starts the server there again.
const WATCHDOG: &str = r#"
exec 3<&0
"$@" </dev/null >>"$LARDER_LOG" 2>&1 3<&- &
server=$!
echo "$server"
{ read -r _ || rm -rf "$LARDER_DIR"; kill -9 "$server"; } <&3 3<&- >/dev/null 2>&1 &
watch=$!
exec 3<&- >/dev/null 2>&1
wait "$server"
code=$?
kill "$watch"
wait "$watch"
exit "$code"
"#;

const READY: Duration = Duration::from_secs(20);
const TRIES: u32 = 8;

/// What to start, and how to see that it runs.
pub(crate) struct Launch {
    /// A name looked up in `PATH`, or a path.
    pub(crate) program: String,
    /// The package to name when it is missing.
    pub(crate) package: &'static str,
    /// The server's own directory, removed after it.
    pub(crate) dir: TempDir,
    /// The arguments for a port.
    pub(crate) args: Box<dyn Fn(u16) -> Vec<String> + Send + Sync>,
    /// Whether the server with this port and process id answers: *this* one, for two tests may pick
    /// one port.
    pub(crate) answers: Box<dyn Fn(u16, u32) -> bool + Send + Sync>,
}

/// A running server, killed and reaped on drop.
pub(crate) struct Server {
    launch: Launch,
    port: u16,
    starts: AtomicU64,
    running: Mutex<Option<Running>>,
}

struct Running {
    watchdog: Child,
    // Closing it is the order to kill.
    stdin: Option<ChildStdin>,
    pid: u32,
}

impl Server {
    /// Starts the server on a free port and waits until it answers.
    pub(crate) fn start(launch: Launch) -> Server {
        require(&launch.program, launch.package);
        super::noise::watch();
        for _ in 0..TRIES {
            let port = free_port();
            if let Some(running) = launch.run(port) {
                return Server {
                    launch,
                    port,
                    starts: AtomicU64::new(1),
                    running: Mutex::new(Some(running)),
                };
            }
        }
        panic!("{} did not start on any of {TRIES} ports:\n{}", launch.program, launch.log());
    }

    /// The loopback port, the same after a restart.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The loopback address.
    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The process id of the server itself (not of the shell that watches it).
    pub(crate) fn pid(&self) -> u32 {
        lock(&self.running).as_ref().map(|running| running.pid).expect("the server is not running")
    }

    /// The server's own directory.
    pub(crate) fn dir(&self) -> &Path {
        self.launch.dir.path()
    }

    /// How often it has been started: a connection made under another number is dead.
    pub(crate) fn starts(&self) -> u64 {
        self.starts.load(Ordering::SeqCst)
    }

    /// Kills it (`-9`) and waits until it is gone. Nothing listens on its port until
    /// [`restart`](Self::restart).
    pub(crate) fn kill(&self) {
        drop(lock(&self.running).take());
    }

    /// Stops the process (`SIGSTOP`): the kernel still accepts connections, and no request is
    /// answered.
    pub(crate) fn freeze(&self) {
        let pid = self.pid();
        signal("STOP", pid);
        super::wait_until("the server is frozen", Duration::from_secs(5), || {
            all_threads(pid, |state| state == 'T')
        });
    }

    /// Lets a frozen process go on.
    pub(crate) fn thaw(&self) {
        let pid = self.pid();
        signal("CONT", pid);
        super::wait_until("the server goes on", Duration::from_secs(5), || {
            all_threads(pid, |state| state != 'T')
        });
    }

    /// Starts it again on the same port, killing it first if it still runs, and waits until it
    /// answers.
    pub(crate) fn restart(&self) {
        let mut running = lock(&self.running);
        drop(running.take());
        let end = Instant::now() + READY;
        loop {
            *running = self.launch.run(self.port);
            if running.is_some() {
                self.starts.fetch_add(1, Ordering::SeqCst);
                return;
            }
            assert!(
                Instant::now() < end,
                "no restart on port {}:\n{}",
                self.port,
                self.launch.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Launch {
    /// `None` when the server ended by itself, most likely because another program took the port.
    fn run(&self, port: u16) -> Option<Running> {
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "larder-watchdog", &self.program])
            .args((self.args)(port))
            .env("LARDER_LOG", self.log_path())
            .env("LARDER_DIR", self.dir.path())
            .current_dir(self.dir.path())
            // A group of its own, so that Ctrl-C in a terminal does not take the watchdog before it
            // has done its work.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        let stdin = watchdog.stdin.take();
        let mut line = String::new();
        BufReader::new(watchdog.stdout.take().expect("stdout is piped"))
            .read_line(&mut line)
            .expect("sh says the pid");
        let pid = line.trim().parse().expect("a process id");
        let mut running = Running { watchdog, stdin, pid };

        let end = Instant::now() + READY;
        loop {
            if (self.answers)(port, pid) {
                return Some(running);
            }
            if running.watchdog.try_wait().expect("the watchdog can be waited for").is_some() {
                return None;
            }
            assert!(
                Instant::now() < end,
                "{} is silent after {READY:?}:\n{}",
                self.program,
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    fn log(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            // It fails when the server, and so the watchdog, has ended already.
            let _ = stdin.write_all(b"keep\n");
        }
        // SIGKILL ends a frozen process too, so this does not wait long.
        let _ = self.watchdog.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A new directory for one server.
pub(crate) fn dir() -> TempDir {
    tempfile::Builder::new().prefix("larder-").tempdir().expect("a temporary directory")
}

/// A port of 127.0.0.1 on which no program listens now.
///
/// It lies below the range that the kernel gives to outgoing connections where it can. In that
/// range, the port of a killed server may be taken by any client; worse, a client that keeps trying
/// to reconnect on loopback is in the end connected to itself.
pub(crate) fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU64> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU64::new(RandomState::new().hash_one("port") >> 16));
    let first = 10_000;
    let end = match first_ephemeral_port() {
        low if low >= 12_000 => low,
        _ => 60_000,
    };
    for _ in 0..5_000 {
        let offset = next.fetch_add(1, Ordering::Relaxed) % u64::from(end - first);
        let port = first + u16::try_from(offset).expect("less than a port");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {first} and {end}");
}

fn first_ephemeral_port() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
}

fn require(program: &str, package: &str) {
    let found = if program.contains('/') {
        Path::new(program).is_file()
    } else {
        env::var_os("PATH")
            .is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
    };
    assert!(found, "{program} is not installed: run scripts/test, or apt-get install {package}");
}

/// Through the shell's own `kill`: a bare system has no program of that name.
pub(crate) fn signal(name: &str, pid: u32) {
    let status = Command::new("sh")
        .args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &pid.to_string()])
        .status()
        .expect("sh starts");
    assert!(status.success(), "kill -s {name} {pid} failed");
}

/// Whether a condition holds for the state letter of every thread; true where there is no `/proc`
/// to ask.
fn all_threads(pid: u32, condition: impl Fn(char) -> bool) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok()).all(
        |stat| {
            // The name before it, in brackets, may itself hold brackets and spaces.
            stat.rsplit(')')
                .next()
                .and_then(|rest| rest.trim_start().chars().next())
                .is_some_and(&condition)
        },
    )
}
