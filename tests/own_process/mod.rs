//! Tests in a process of their own: each re-executes the test binary for itself alone, with a time
//! limit, so that process-wide state, a deadlock, an abort, and a panic that was caught are all
//! seen.

#![allow(dead_code, unused_imports, unused_macros, reason = "each test binary uses a part of it")]

use std::env;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const MARK: &str = "LARDER_TEST_CHILD";
const LIMIT: Duration = Duration::from_secs(120);

/// Defines tests whose bodies run in a process of their own, with the environment variables given
/// in brackets.
macro_rules! own_process {
    ($($(#[$attribute:meta])* fn $name:ident($($variable:literal = $value:expr),* $(,)?) $body:block)*) => {$(
        $(#[$attribute])*
        #[test]
        fn $name() {
            $crate::own_process::run(concat!(module_path!(), "::", stringify!($name)), &[$(($variable, $value)),*], || $body);
        }
    )*};
}
pub(crate) use own_process;

pub(crate) fn run(path: &str, environment: &[(&str, &str)], body: impl FnOnce()) {
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    if env::var(MARK).is_ok_and(|mark| mark == name) {
        return body();
    }
    let mut all = vec![(MARK, name)];
    all.extend(environment);
    let (said, complained) =
        run_process(name, &[name, "--exact", "--nocapture", "--include-ignored"], &all);
    assert!(said.contains("1 passed"), "{name} did not run\n{said}");
    print!("{complained}");
}

/// Whether this is the process of a single test.
pub(crate) fn is_child() -> bool {
    env::var_os(MARK).is_some()
}

/// Runs this binary once more and gives back what it wrote, to either stream, once it has ended
/// well.
pub(crate) fn run_process(
    name: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (String, String) {
    let mut command = Command::new(env::current_exe().unwrap());
    for (variable, _) in env::vars_os() {
        let variable = variable.to_string_lossy().into_owned();
        if variable.starts_with("PRIVEX_")
            || (variable.starts_with("LARDER_") && variable != "LARDER_SOAK")
        {
            command.env_remove(variable);
        }
    }
    command.args(arguments).envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (said, complained) =
        (collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap()));
    let status = finish(&mut child);
    let (said, complained) = (said.join().unwrap(), complained.join().unwrap());
    let Some(status) = status else {
        panic!("{name}: not done after {LIMIT:?}, a deadlock?\n{said}\n{complained}");
    };
    assert!(status.success(), "{name}: {status}\n{said}\n{complained}");
    assert!(
        !complained.contains("panicked"),
        "{name}: a panic, though somebody caught it\n{complained}"
    );
    (said, complained)
}

fn finish(child: &mut Child) -> Option<ExitStatus> {
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// Polls for a condition.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(40), "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// How many threads this process has.
pub(crate) fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Whether this is the thread that `main` was called on.
pub(crate) fn is_main_thread() -> bool {
    thread::current().name() == Some("main")
}
