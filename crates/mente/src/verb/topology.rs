//! `mente topology …`

use std::fs::File;
use std::io::Write;

use serde_json::Value;

use super::stream::read_declaration;
use super::{Caller, items, json};
use crate::args::{Output, Topology};
use crate::failure::{Code, Failure, Result};
use crate::output::{cell, line, printable};

pub(super) async fn run(verb: Topology) -> Result<()> {
    match verb {
        Topology::Apply { file, connection } => {
            let declared = read_declaration(&file)?;
            let caller = Caller::new(&connection)?;
            let applied = caller.print("PUT", "/topology", declared, |answer| {
                let (all, differing) = show(answer, false)?;
                line(&match differing {
                    0 => format!("nothing changed: all {all} are as {file} says"),
                    _ => format!("{differing} changed of {all}"),
                })
            });
            applied.await.map_err(|failure| of_file(&file, failure))
        }
        Topology::Diff { file, connection } => {
            let declared = read_declaration(&file)?;
            let caller = Caller::new(&connection)?;
            let told = caller.call("POST", "/topology/diff", None, declared).await;
            let told = told.map_err(|failure| of_file(&file, failure))?;
            let answer = json(&told)?;
            let is_same = |change: &Value| change.get("sign") == Some(&"=".into());
            let differing = match caller.output {
                Output::Table => show(&answer, true)?.1,
                Output::Json => {
                    line(&told.text())?;
                    items(&answer, "changes").filter(|c| !is_same(c)).count()
                }
            };
            match differing {
                0 => Ok(()),
                _ => Err(Failure::new(
                    Code::Failed,
                    format!("{differing} are not as {file} says"),
                )),
            }
        }
        Topology::Export { file, connection } => export(&file, &Caller::new(&connection)?).await,
    }
}

async fn export(file: &str, caller: &Caller) -> Result<()> {
    if caller.output == Output::Json && file != "-" {
        let message = "-o json goes to standard output: leave FILE out";
        return Err(Failure::usage(message));
    }
    let told = caller.call("GET", "/topology", None, "").await?;
    if caller.output == Output::Json {
        return line(&told.text());
    }
    let answer = json(&told)?;
    let config = answer.get("config").unwrap_or(&Value::Null);
    let text = format!("{config:#}");
    if file == "-" {
        line(&text)?;
    } else {
        let made = File::create_new(file);
        let written = made.and_then(|mut file| writeln!(file, "{text}"));
        written.map_err(|error| {
            Failure::usage(format!("cannot write {file}: {error}; name a new file"))
        })?;
    }
    for left in items(&answer, "leftOut") {
        eprintln!("left out: {}", cell(Some(left)));
    }
    Ok(())
}

/// What is wrong stands in the file, or against it.
fn of_file(file: &str, failure: Failure) -> Failure {
    match failure.code {
        Code::Usage | Code::Conflict => {
            Failure::new(failure.code, format!("{file}: {}", failure.message))
        }
        _ => failure,
    }
}

/// One line a change and one a field; how many there are, and how many differ.
fn show(answer: &Value, with_same: bool) -> Result<(usize, usize)> {
    let (mut all, mut differing) = (0, 0);
    for change in items(answer, "changes") {
        let of = |name: &str| cell(change.get(name));
        let is_same = of("sign") == "=";
        all += 1;
        differing += usize::from(!is_same);
        if is_same && !with_same {
            continue;
        }
        line(&format!("{} {} {}", of("sign"), of("kind"), of("name")))?;
        for field in items(change, "fields") {
            line(&format!("    {}", shown(field, &of("sign"))))?;
        }
    }
    Ok((all, differing))
}

fn shown(field: &Value, sign: &str) -> String {
    let of = |name: &str| field.get(name).map(|value| printable(&value.to_string()));
    let name = cell(field.get("name"));
    let is_anew = field.get("anew") == Some(&true.into()) && sign == "~";
    let anew = match is_anew {
        true => "  (fixed: needs to be made anew)",
        false => "",
    };
    match (of("before"), of("after")) {
        (Some(_), Some(after)) if sign == "+" => format!("+ {name} {after}"),
        (Some(before), Some(after)) => format!("~ {name} {before} -> {after}{anew}"),
        (Some(before), None) => format!("- {name} {before}"),
        (None, after) => format!("+ {name} {}", after.unwrap_or_default()),
    }
}
