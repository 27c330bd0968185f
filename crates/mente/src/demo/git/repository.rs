//! A repository, asked by the `git` program. What is read must not depend on how somebody has set Git
//! up: what the environment says of repositories is taken away, what settings could change is said
//! anew, and replacements and grafts are left out. Settings themselves are read, because
//! `safe.directory` is one.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::object::Format;
use crate::failure::{Code, Failure, Result};
use crate::output::printable;

/// Longest name that a repository gives its stream.
const NAME_BYTES: usize = 60;
/// What is shown of Git's complaints.
const COMPLAINT_BYTES: u64 = 2_000;
/// Variables of Git's that may stay: where its parts are, who trusts which directory.
const KEPT: [&str; 3] = ["GIT_EXEC_PATH", "GIT_CEILING_DIRECTORIES", "GIT_CONFIG"];
/// Against every setting that could change what `git log` says.
const PLAIN_LOG: [&str; 8] = [
    "--no-show-signature",
    "--no-notes",
    "--no-mailmap",
    "--no-color",
    "--no-decorate",
    "--no-patch",
    "--encoding=UTF-8",
    "-z",
];

#[derive(Debug)]
pub(super) struct Repository {
    path: PathBuf,
    pub(super) format: Format,
    /// The commit whose history is read; it stays the same if somebody commits meanwhile.
    pub(super) head: String,
    /// Of its directory, in letters that streams may have.
    pub(super) name: String,
    pub(super) is_shallow: bool,
}

/// A Git that is at work and ends with this.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    complaints: File,
}

/// A field of what Git says.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) bytes: Vec<u8>,
    /// It was longer than what is taken.
    pub(super) is_cut: bool,
}

impl Repository {
    /// Looks that there is one and that it has a commit.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        match std::fs::metadata(path) {
            Ok(about) if about.is_dir() => {}
            Ok(_) => {
                let message =
                    format!("{shown} is no directory: give the directory of a Git repository");
                return Err(Failure::usage(message));
            }
            Err(error) => {
                let message =
                    format!("cannot open {shown}: {error}; give the directory of a Git repository");
                return Err(Failure::usage(message));
            }
        }
        let common = answer(
            path,
            &["rev-parse", "--path-format=absolute", "--git-common-dir"],
        )?;
        let common = common.map_err(|complaint| {
            let message = format!(
                "{shown} is no Git repository that can be read (Git says: {complaint}); give the \
                 directory of one, bare or not"
            );
            Failure::usage(message)
        })?;
        let head = ["rev-parse", "--verify", "--quiet", "HEAD^{commit}"];
        let head = answer(path, &head)?.map_err(|_| {
            let message = format!(
                "{shown} has no commit that HEAD leads to: make one, or check out a branch that has one"
            );
            Failure::usage(message)
        })?;
        let said = answer(path, &["rev-parse", "--show-object-format"])?;
        let said = said.unwrap_or_else(|complaint| complaint);
        let Some(format) = Format::named(&said) else {
            let message = format!(
                "{shown} names its objects by {said:?}, which is not known here: sha1 and sha256 are"
            );
            return Err(Failure::usage(message));
        };
        let is_shallow = answer(path, &["rev-parse", "--is-shallow-repository"])?;
        Ok(Self {
            path: path.to_owned(),
            format,
            head,
            name: name(Path::new(&common)),
            is_shallow: is_shallow.is_ok_and(|said| said == "true"),
        })
    }

    /// The first-parent history, oldest first; each of its fields ends with a NUL.
    pub(super) fn log(&self, fields: &str) -> Result<Running> {
        let mut command = git(&self.path);
        command.args(["log", "--first-parent", "--reverse"]);
        command.args(PLAIN_LOG);
        command.arg(format!("--format=tformat:{fields}"));
        command.args([&self.head, "--"]);
        Running::start(command, Stdio::null())
    }

    /// Answers object by object what they hold.
    pub(super) fn objects(&self) -> Result<Running> {
        let mut command = git(&self.path);
        command.args(["cat-file", "--batch"]);
        Running::start(command, Stdio::piped())
    }
}

impl Running {
    fn start(mut command: Command, input: Stdio) -> Result<Self> {
        // A pipe that nobody reads meanwhile could fill up and stop it.
        let complaints = tempfile::tempfile()
            .map_err(|error| failed(&format!("cannot make a temporary file: {error}")))?;
        let theirs = complaints.try_clone();
        let theirs =
            theirs.map_err(|error| failed(&format!("cannot use a temporary file: {error}")))?;
        let started = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(theirs)
            .spawn();
        let mut child = started.map_err(|error| absent(&error))?;
        let input = child.stdin.take();
        let output = child.stdout.take();
        let output = output.ok_or_else(|| failed("Git has no output to read"))?;
        Ok(Self {
            child,
            input,
            output: BufReader::with_capacity(64 << 10, output),
            complaints,
        })
    }

    /// What comes before the next NUL, of which at most `limit` bytes are kept. `None` at the end.
    pub(super) fn field(&mut self, limit: usize) -> Result<Option<Field>> {
        let mut field = Field {
            bytes: Vec::new(),
            is_cut: false,
        };
        loop {
            let piece = self.output.fill_buf().map_err(|error| unreadable(&error))?;
            if piece.is_empty() {
                if field.bytes.is_empty() && !field.is_cut {
                    return self.end().map(|()| None);
                }
                return Err(self.broken("it ended within a field"));
            }
            let end = piece.iter().position(|byte| *byte == 0);
            let part = piece.get(..end.unwrap_or(piece.len())).unwrap_or(piece);
            let room = limit - field.bytes.len();
            field.is_cut |= part.len() > room;
            field.bytes.extend(part.iter().take(room));
            let taken = part.len() + usize::from(end.is_some());
            self.output.consume(taken);
            if end.is_some() {
                return Ok(Some(field));
            }
        }
    }

    /// The same as text, in which what is no UTF-8 is marked.
    pub(super) fn text(&mut self, limit: usize) -> Result<Option<String>> {
        let Some(field) = self.field(limit)? else {
            return Ok(None);
        };
        let mut text = String::from_utf8_lossy(&field.bytes).into_owned();
        if field.is_cut {
            // A letter may have been cut in two.
            text.truncate(text.trim_end_matches('\u{fffd}').len());
            text.push('\u{2026}');
        }
        Ok(Some(text))
    }

    /// Asks for an object; its name, its kind, its content. `None` if it is not there.
    pub(super) fn object(
        &mut self,
        asked: &str,
        limit: usize,
    ) -> Result<Option<(String, String, Vec<u8>)>> {
        let written = match &mut self.input {
            Some(input) => input.write_all(format!("{asked}\n").as_bytes()),
            None => Ok(()),
        };
        written.map_err(|error| unreadable(&error))?;
        let mut head = Vec::new();
        let mut line = self.output.by_ref().take(1_000);
        let read = line.read_until(b'\n', &mut head);
        read.map_err(|error| unreadable(&error))?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut words = head.split_whitespace();
        let (id, kind, size) = (words.next(), words.next(), words.next());
        let (Some(id), Some(kind)) = (id, kind) else {
            return Err(self.broken("it ended at an object"));
        };
        let Some(size) = size.and_then(|size| size.parse::<usize>().ok()) else {
            return Ok(None);
        };
        if size > limit {
            let message =
                format!("the {kind} {id} has {size} bytes, more than the {limit} that are read");
            return Err(failed(&message));
        }
        let mut content = vec![0; size + 1];
        let read = self.output.read_exact(&mut content);
        read.map_err(|error| unreadable(&error))?;
        content.truncate(size);
        Ok(Some((id.to_owned(), kind.to_owned(), content)))
    }

    /// It must end well, or what came is not all.
    fn end(&mut self) -> Result<()> {
        let status = self.child.wait().map_err(|error| unreadable(&error))?;
        if status.success() {
            return Ok(());
        }
        Err(self.broken(&format!("it ended with {status}")))
    }

    fn broken(&mut self, what: &str) -> Failure {
        let mut said = String::new();
        let _ = self.complaints.seek(SeekFrom::Start(0));
        let _ = (&self.complaints)
            .take(COMPLAINT_BYTES)
            .read_to_string(&mut said);
        let message = format!("Git does not tell the whole history: {what}");
        match one_line(&said).as_str() {
            "" => failed(&message),
            said => failed(&format!("{message} (Git says: {said})")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line of a short answer, or what Git complains of.
fn answer(path: &Path, words: &[&str]) -> Result<Result<String, String>> {
    let output = git(path).args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| absent(&error))?;
    if !output.status.success() {
        return Ok(Err(one_line(&String::from_utf8_lossy(&output.stderr))));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(Ok(text.trim_end_matches('\n').to_owned()))
}

fn git(path: &Path) -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("GIT_") && !KEPT.iter().any(|kept| name.starts_with(kept)) {
            command.env_remove(name);
        }
    }
    command
        .env("LC_ALL", "C")
        .env("GIT_TERMINAL_PROMPT", "0")
        // A file that is there, even an empty one, would be warned of.
        .env("GIT_GRAFT_FILE", "/dev/null/none")
        .args(["--no-pager", "--no-replace-objects"])
        .arg("-C")
        .arg(path);
    command
}

/// `/home/me/tool/.git`, `/srv/tool.git`: tool.
fn name(common: &Path) -> String {
    let last = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy());
        name.unwrap_or_default().into_owned()
    };
    let mut name = last(common);
    if name == ".git" {
        name = common.parent().map(last).unwrap_or_default();
    }
    let name = name.strip_suffix(".git").unwrap_or(&name);
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let plain = |letter: char| if is_plain(letter) { letter } else { '-' };
    let name: String = name.chars().map(plain).take(NAME_BYTES).collect();
    match name.trim_matches(['-', '.']) {
        "" => "unnamed".to_owned(),
        name => name.to_owned(),
    }
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    printable(&words.join(" "))
}

fn absent(error: &std::io::Error) -> Failure {
    failed(&format!(
        "cannot run git: {error}; install Git, or name its directory in PATH"
    ))
}

fn unreadable(error: &std::io::Error) -> Failure {
    failed(&format!("cannot read what Git says: {error}"))
}

pub(super) fn failed(message: &str) -> Failure {
    Failure::new(Code::Failed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_called_by_its_directory() {
        for (directory, called) in [
            ("/home/me/tool/.git", "tool"),
            ("/srv/tool.git", "tool"),
            ("/srv/my tool", "my-tool"),
            ("/srv/caf\u{e9}.git", "caf"),
            ("/.git", "unnamed"),
            ("/", "unnamed"),
        ] {
            assert_eq!(name(Path::new(directory)), called);
        }
        assert!(name(Path::new(&"x".repeat(300))).len() <= NAME_BYTES);
    }
}
