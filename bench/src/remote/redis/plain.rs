//! Plain TCP: reads and writes by tasks and by a thread, CPU time, and batches.

use super::{Filled, NOTE, RAW, Work, arguments, batches, blocking, by_tasks};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::Line;
use crate::remote::server::Server;
use crate::remote::{Done, MANY_TASKS, PATIENCE, ROUNDS, TASKS};
use crate::run::Run;
use redis::{Client, IntoConnectionInfo};

const LINES: [(&str, &str, usize, bool, f64); 9] = [
    ("redis/get-1", "redis GET 100 B, 1 task", 1, false, 1.0),
    ("redis/get-4", "redis GET 100 B, 4 tasks", 4, false, 1.0),
    ("redis/get-16", "redis GET 100 B, 16 tasks", 16, false, 1.3),
    ("redis/get-64", "redis GET 100 B, 64 tasks", 64, false, 1.7),
    ("redis/get-256", "redis GET 100 B, 256 tasks", 256, false, 2.0),
    ("redis/get-1024", "redis GET 100 B, 1,024 tasks", 1_024, false, 2.2),
    ("redis/set-1", "redis SET with expiry 100 B, 1 task", 1, true, 1.0),
    ("redis/set-16", "redis SET with expiry 100 B, 16 tasks", 16, true, 1.3),
    ("redis/set-256", "redis SET with expiry 100 B, 256 tasks", 256, true, 1.8),
];

pub(super) fn run(run: &mut Run) {
    if !["redis/get-tasks", "redis/cpu-256", "redis/blocking"]
        .iter()
        .chain(&batches::CURVES)
        .chain(LINES.iter().map(|line| &line.0))
        .any(|id| run.wants(id))
    {
        return;
    }
    let Some(server) =
        Server::start("redis-server", |port| arguments(&["--port", &port.to_string()]))
    else {
        return;
    };
    let url = format!("redis://127.0.0.1:{}", server.port);
    let info = url.as_str().into_connection_info().expect("an address");
    let filled = Filled::new(format!("{url}?{PATIENCE}"), info, Client::open);
    for (id, title, tasks, writes, goal) in LINES {
        let line = Line::new(id, title, Unit::PerSecond)
            .goal(Goal::at_least_times(goal, RAW))
            .rounds(ROUNDS)
            .note(NOTE);
        run.line(line, || by_tasks(&filled, Work { tasks, writes }, Done::per_second));
    }
    let many = Work { tasks: 256, writes: false };
    let line =
        Line::new("redis/cpu-256", "CPU time a redis GET 100 B takes, 256 tasks", Unit::Micros)
            .goal(Goal::at_most_times(0.6, RAW))
            .rounds(ROUNDS)
            .note("Of the whole process, the server's not among it.");
    run.line(line, || by_tasks(&filled, many, Done::cpu_micros));
    let line = Line::new("redis/blocking", "redis GET 100 B, blocking, one thread", Unit::Micros)
        .goal(Goal::at_most_times(1.1, "redis::Connection"))
        .rounds(ROUNDS);
    run.line(line, || blocking(&filled));
    let line = Line::new("redis/get-tasks", "redis GET 100 B, as tasks grow", Unit::PerSecond)
        .note(MANY_TASKS);
    run.curve(line, "tasks", &TASKS, |tasks| {
        by_tasks(&filled, Work { tasks: tasks as usize, writes: false }, Done::per_second)
    });
    batches::run(run, &filled);
}
