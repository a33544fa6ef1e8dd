//! Tests in a process of their own: their memory, descriptors, threads and panics belong to no
//! other test.

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

/// Runs `child` in a fork of this process, and waits until it is done. For a process of one's own,
/// at a quiet moment: the child has the one thread that forked, and whatever locks others held.
pub(crate) fn in_fork(child: impl FnOnce()) {
    match fork::fork().expect("this process forks") {
        fork::Fork::Parent(pid) => {
            let status = fork::waitpid(pid).expect("the child ends");
            assert_eq!(status, 0, "the child failed, see above");
        }
        fork::Fork::Child => {
            let child = std::panic::AssertUnwindSafe(child);
            let failed = std::panic::catch_unwind(child).is_err();
            // Nothing of the parent's is dropped here.
            std::process::exit(i32::from(failed));
        }
    }
}

/// How much memory this process has, in bytes.
pub(crate) fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux has this file");
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number of pages")
        * 4_096
}
