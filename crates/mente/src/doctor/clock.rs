//! The wall clock: time to live, retention and retries go by it.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Finding;

/// By so much the clocks may differ over the run, which is a second or a few.
const STEP: Duration = Duration::from_millis(100);
/// By so much a clock may be behind what was written before, as after a correction.
const BEHIND: Duration = Duration::from_secs(60);
/// No clock of a machine that runs this shows an earlier year: 2025 began then.
const NOT_BEFORE: Duration = Duration::from_secs(1_735_689_600);

/// Both clocks, read together.
pub(super) struct Moment {
    wall: SystemTime,
    monotone: Instant,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            wall: SystemTime::now(),
            monotone: Instant::now(),
        }
    }
}

pub(super) fn check(began: &Moment, data_dir: &Path) -> Vec<Finding> {
    let now = Moment::now();
    vec![drift(began, &now), judge_wall(now.wall, newest(data_dir))]
}

/// Whether the wall clock was moved, or runs differently, while we looked.
fn drift(began: &Moment, now: &Moment) -> Finding {
    let monotone = now.monotone.duration_since(began.monotone);
    let expected = began.wall + monotone;
    let (apart, how) = match now.wall.duration_since(expected) {
        Ok(ahead) => (ahead, "forward"),
        Err(behind) => (behind.duration(), "back"),
    };
    let seconds = monotone.as_secs_f64();
    if apart <= STEP {
        return Finding::ok("clock", format!("it kept time for {seconds:.1} s"));
    }
    let message = format!(
        "within {seconds:.1} s it was set {how} by {:.1} s",
        apart.as_secs_f64()
    );
    Finding::warn(
        "clock",
        message,
        "let something like chrony keep it, slowly",
    )
}

fn judge_wall(wall: SystemTime, newest: Option<SystemTime>) -> Finding {
    let advice = "set the clock: time to live, retention and retries go by it";
    if wall.duration_since(UNIX_EPOCH).unwrap_or_default() < NOT_BEFORE {
        return Finding::bad("clock", "it shows a year before 2025", advice);
    }
    let behind = newest.and_then(|newest| newest.duration_since(wall).ok());
    match behind.filter(|behind| *behind > BEHIND) {
        Some(behind) => {
            let message = format!(
                "it is {} s behind the newest file of the data",
                behind.as_secs()
            );
            Finding::bad("clock", message, advice)
        }
        None if newest.is_some() => Finding::ok("clock", "not behind the newest file of the data"),
        None => Finding::ok("clock", "it is set; there is no data to compare it with"),
    }
}

/// When something was last written there.
fn newest(data_dir: &Path) -> Option<SystemTime> {
    let files = std::fs::read_dir(data_dir).ok()?.flatten();
    files
        .filter_map(|file| file.metadata().ok()?.modified().ok())
        .max()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_is_told() {
        let began = Moment::now();
        let later = |wall: SystemTime| Moment {
            wall,
            monotone: began.monotone + Duration::from_secs(2),
        };
        let second = Duration::from_secs(1);
        for (wall, verdict) in [
            (began.wall + 2 * second, Verdict::Ok),
            (began.wall + 3 * second, Verdict::Warn),
            (began.wall - second, Verdict::Warn),
        ] {
            assert_eq!(drift(&began, &later(wall)).verdict, verdict);
        }
    }

    #[test]
    fn a_clock_that_is_behind_the_data_is_told() {
        let wall = UNIX_EPOCH + NOT_BEFORE + Duration::from_secs(1_000_000);
        for (newest, verdict) in [
            (None, Verdict::Ok),
            (Some(wall - BEHIND), Verdict::Ok),
            (Some(wall + BEHIND), Verdict::Ok),
            (Some(wall + 2 * BEHIND), Verdict::Bad),
        ] {
            assert_eq!(judge_wall(wall, newest).verdict, verdict, "{newest:?}");
        }
        assert_eq!(judge_wall(UNIX_EPOCH, None).verdict, Verdict::Bad);
    }
}
