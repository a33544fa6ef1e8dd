//! What the figures were taken on.

use std::fs;
use std::process::Command;
use std::time::Duration;

pub(crate) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpuinfo.lines().find_map(|line| {
        line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok()
    });
    [
        format!("{}, {cores} cores", cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned())),
        memory.map_or_else(String::new, |kib| format!("{} GiB", (kib + (1 << 19)) >> 20)),
        said("uname", &["-sr"]),
        said("rustc", &["--version"]),
    ]
    .into_iter()
    .filter(|fact| !fact.is_empty())
    .collect::<Vec<_>>()
    .join("; ")
}

/// When, and how busy the machine was.
pub(crate) fn moment() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let date = said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]);
    match load.split_whitespace().next() {
        Some(load) => format!("{date}, load {load}"),
        None => date,
    }
}

/// How long this process has computed.
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap_or_default(),
        time.tv_nsec.try_into().unwrap_or_default(),
    )
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
