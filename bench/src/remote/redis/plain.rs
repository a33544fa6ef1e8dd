//! Plain TCP: reads and writes by tasks and by a thread, CPU time, and batches.

use super::{Filled, RAW, WorkLine, batches, blocking_line, by_tasks, reads, work_lines, writes};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::Line;
use crate::remote::{Done, MANY_TASKS, ROUNDS, TASKS, batch_ids};
use crate::run::Run;

const LINES: [WorkLine; 9] = [
    ("redis/get-1", "redis GET 100 B, 1 task", reads(1), 1.0),
    ("redis/get-4", "redis GET 100 B, 4 tasks", reads(4), 1.0),
    ("redis/get-16", "redis GET 100 B, 16 tasks", reads(16), 1.3),
    ("redis/get-64", "redis GET 100 B, 64 tasks", reads(64), 1.7),
    ("redis/get-256", "redis GET 100 B, 256 tasks", reads(256), 2.0),
    ("redis/get-1024", "redis GET 100 B, 1,024 tasks", reads(1_024), 2.2),
    ("redis/set-1", "redis SET with expiry 100 B, 1 task", writes(1), 1.0),
    ("redis/set-16", "redis SET with expiry 100 B, 16 tasks", writes(16), 1.3),
    ("redis/set-256", "redis SET with expiry 100 B, 256 tasks", writes(256), 1.8),
];

pub(super) fn run(run: &mut Run) {
    if !batch_ids("redis")
        .iter()
        .map(String::as_str)
        .chain(["redis/get-tasks", "redis/cpu-256", "redis/blocking"])
        .chain(LINES.iter().map(|line| line.0))
        .any(|id| run.wants(id))
    {
        return;
    }
    let Some(filled) = Filled::plain() else { return };
    work_lines(run, &filled, &LINES);
    let line =
        Line::new("redis/cpu-256", "CPU time a redis GET 100 B takes, 256 tasks", Unit::Micros)
            .goal(Goal::at_most_times(0.6, RAW))
            .rounds(ROUNDS)
            .note("Of the whole process, the server's not among it.");
    run.line(line, || by_tasks(&filled, reads(256), Done::cpu_micros));
    blocking_line(run, &filled, "redis/blocking", "redis GET 100 B, blocking, one thread");
    let line = Line::new("redis/get-tasks", "redis GET 100 B, as tasks grow", Unit::PerSecond)
        .note(MANY_TASKS);
    run.curve(line, "tasks", &TASKS, |tasks| {
        by_tasks(&filled, reads(tasks as usize), Done::per_second)
    });
    batches::run(run, &filled);
}
