//! `mente doctor`: what a server would suffer from on this machine, each with what to do about it.
//!
//! One file a group of checks; each gives findings and changes nothing. A server may be at work in the
//! directory meanwhile.

mod clock;
mod data;
mod disk;
mod holder;
mod limits;
mod ports;
mod sync;

use std::path::Path;

use serde::Serialize;

use crate::args::{Doctor, Output};
use crate::failure::{Code, Failure, Result};
use crate::output::{line, printable};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Bad,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    message: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            message: message.into(),
            advice: None,
        }
    }

    fn warn(check: &'static str, message: impl Into<String>, advice: &'static str) -> Self {
        Self {
            verdict: Verdict::Warn,
            advice: Some(advice),
            ..Self::ok(check, message)
        }
    }

    fn bad(check: &'static str, message: impl Into<String>, advice: &'static str) -> Self {
        Self {
            verdict: Verdict::Bad,
            ..Self::warn(check, message, advice)
        }
    }
}

/// Fails if something is bad.
pub(crate) fn run(doctor: &Doctor) -> Result<()> {
    let began = clock::Moment::now();
    // What is not there yet will lie where its nearest ancestor lies.
    let ground = ground(&doctor.data_dir);
    let mut findings = disk::check(&ground, doctor.disk_reserve.unwrap_or_default());
    findings.extend(limits::check());
    findings.push(match limits::may_write_files() {
        true => sync::check(&ground),
        // Who writes beyond that limit is ended by the kernel.
        false => Finding::warn(
            "sync",
            "not measured: files may not be large enough",
            "raise that limit first",
        ),
    });
    findings.push(ports::check(doctor.http, &doctor.data_dir));
    findings.extend(data::check(&doctor.data_dir));
    let secrets = [&doctor.keys_file, &doctor.tls_key];
    findings.extend(secrets.into_iter().flatten().map(|file| data::secret(file)));
    findings.extend(clock::check(&began, &doctor.data_dir));
    show(&findings, doctor.output)?;
    let bad = findings
        .iter()
        .filter(|f| f.verdict == Verdict::Bad)
        .count();
    if bad == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Code::Failed,
        format!("{bad} of {} checks are bad: see above", findings.len()),
    ))
}

/// The directory, or its nearest ancestor that is there.
fn ground(data_dir: &Path) -> std::path::PathBuf {
    let here = Path::new(".");
    let there = data_dir.ancestors().find(|path| path.exists());
    let there = there.filter(|path| !path.as_os_str().is_empty());
    there.unwrap_or(here).to_owned()
}

fn show(findings: &[Finding], output: Output) -> Result<()> {
    if output == Output::Json {
        let worst = findings.iter().map(|finding| finding.verdict).max();
        let answer = serde_json::json!({"verdict": worst, "findings": findings});
        return line(&answer.to_string());
    }
    for finding in findings {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Bad => "BAD",
        };
        let advice = finding
            .advice
            .map_or_else(String::new, |advice| format!(": {advice}"));
        let message = printable(&finding.message);
        line(&format!(
            "{verdict:<5} {:<8} {message}{advice}",
            finding.check
        ))?;
    }
    Ok(())
}
