//! Tests in a process of their own: their memory, descriptors, threads and panics are nobody else's.

use super::turns::turn;
use std::process::Command;

const ROLE: &str = "LARDER_TEST_ALONE";

/// Runs `body` in this binary started anew, for the test of that whole name.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var(ROLE).is_ok_and(|role| role == name) {
        super::noise::watch();
        return body();
    }
    let _turn = turn();
    let mut child = Command::new(std::env::current_exe().expect("the path of this program"));
    let status = child
        .args(["--exact", name, "--nocapture"])
        .env(ROLE, name)
        .status()
        .expect("this program starts");
    assert!(status.success(), "{name} failed, see above");
}

/// How much memory this process has, in bytes.
pub(crate) fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number of pages")
        * 4_096
}
