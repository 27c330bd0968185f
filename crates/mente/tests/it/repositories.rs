//! Repositories that are made for a test, by `git fast-import`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use tempfile::TempDir;

/// Commits of the difficult history.
pub(crate) const DIFFICULT: usize = 17;

/// Whatever could change what `git log` or a difference says.
const SETTINGS: &str = "
[core]\nquotePath = true\nabbrev = 7\npager = false\ncommentChar = %
[diff]\nrenames = copies\nnoprefix = true\nignoreSubmodules = all\nrelative = true\nexternal = false
mnemonicPrefix = true\nsubmodule = log\norderFile = /nowhere\nwordRegex = .
[log]\nshowSignature = true\nshowRoot = false\ndiffMerges = off\ndecorate = full\nabbrevCommit = true
date = relative\nmailmap = true\nfollow = true
[format]\npretty = oneline\nnotes = true
[color]\nui = always\ndiff = always
[i18n]\nlogOutputEncoding = UTF-16\ncommitEncoding = ISO-8859-1
[submodule]\nrecurse = true
[pager]\nlog = false
[gpg]\nprogram = echo
[alias]\nlog = status\ncat-file = status
";

pub(crate) struct Made {
    directory: Rc<TempDir>,
    path: PathBuf,
}

/// What `git fast-import` reads.
struct Import {
    text: Vec<u8>,
    marks: u32,
}

impl Made {
    pub(crate) fn empty(format: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("home")).unwrap();
        std::fs::write(directory.path().join("home/.gitconfig"), SETTINGS).unwrap();
        let made = Self {
            path: directory.path().join("my repo"),
            directory: directory.into(),
        };
        std::fs::create_dir(made.path()).unwrap();
        let format = format!("--object-format={format}");
        made.git(&["init", "--quiet", &format, "--initial-branch=main"]);
        made
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// Where its history is told without a name.
    pub(crate) fn stream(&self) -> &'static str {
        "repository-my-repo"
    }

    /// Another place beside it.
    pub(crate) fn at(&self, name: &str) -> Self {
        Self {
            directory: Rc::clone(&self.directory),
            path: self.directory.path().join(name),
        }
    }

    pub(crate) fn cloned(&self, how: &[&str]) -> Self {
        let clone = self.at("clone.git");
        let _ = std::fs::remove_dir_all(clone.path());
        // The serving side of a clone honours grafts, whatever is said to this one.
        let _ = std::fs::remove_file(self.path.join(".git/info/grafts"));
        let from = format!("file://{}", self.path.display());
        let to = clone.path().to_str().unwrap();
        self.git(&[&["clone", "--quiet"], how, &[&from, to]].concat());
        clone
    }

    /// The id of a commit, from the first on.
    pub(crate) fn commit(&self, number: usize) -> String {
        let ids = self.git(&[
            "--no-replace-objects",
            "rev-list",
            "--first-parent",
            "--reverse",
            "main",
        ]);
        ids.lines().nth(number).unwrap().to_owned()
    }

    /// Merges, kinds that change, names that sort oddly, and bytes that are no text.
    pub(crate) fn difficult(format: &str) -> Self {
        let made = Self::empty(format);
        let mut import = Import::new();
        let module = "1".repeat(if format == "sha1" { 40 } else { 64 });
        let deep = format!("{}leaf", "d/".repeat(500));
        let first = import.commit("main", "first", &[]);
        import.files(&[
            "a", "a.b", "a0", "a-", "dir/x", "100%", " space ", "\u{e4}", &deep,
        ]);
        import.raw(b"M 644 inline \"new\\nline\"\ndata 1\nn\n");
        import.raw(b"M 644 inline \"quo\\\"te\"\ndata 1\nq\n");
        import.raw(b"M 644 inline \"tab\\tand\\\\\"\ndata 1\nt\n");
        import.raw(b"M 644 inline \"\\377\\376.bin\"\ndata 1\nb\n");
        import.raw(b"M 755 inline run\ndata 1\nx\n");
        import.raw(b"M 120000 inline link\ndata 3\ndir\n");
        import.raw(format!("M 160000 {module} module\n").as_bytes());
        // Branches whose changes come in by merges alone.
        let side = import.commit("side", "on the side", &[first]);
        import.raw(b"D a0\nM 644 inline a\ndata 4\nside\nM 644 inline side/new\ndata 1\ns\n");
        let left = import.commit("left", "left", &[first]);
        import.files(&["left/file"]);
        let right = import.commit("right", "right", &[first]);
        import.raw(b"M 755 inline a-\ndata 5\nright\n");
        let second = import.commit("main", "second", &[first]);
        import.raw(b"M 644 inline dir/x\ndata 6\nsecond\n");
        let merge = import.commit("main", "two parents", &[second, side]);
        import.raw(b"D a0\nM 644 inline a\ndata 4\nside\nM 644 inline side/new\ndata 1\ns\n");
        let octopus = import.commit("main", "three parents", &[merge, left, right]);
        import.files(&["left/file"]);
        import.raw(b"M 755 inline a-\ndata 5\nright\n");
        let nothing = import.commit("main", "", &[octopus]);
        // Nothing of the other side is taken.
        let ours = import.commit("main", "ours", &[nothing, side]);
        let next = import.commit("main", "files become directories", &[ours]);
        import.raw(b"D a\nD link\nD module\n");
        import.files(&["a/b", "link/l", "module/m", "a/b.c/d"]);
        let next = import.commit("main", "directories become files", &[next]);
        import.raw(b"D a/b.c\nD dir\nD link\n");
        import.raw(format!("M 160000 {module} dir\n").as_bytes());
        import.raw(b"M 120000 inline link\ndata 1\na\n");
        let next = import.commit("main", "another directory in its place", &[next]);
        import.raw(b"D a\n");
        import.files(&["a/b/c"]);
        let next = import.commit("main", "modes", &[next]);
        import.raw(b"M 644 inline run\ndata 1\nx\nM 755 inline a.b\ndata 3\na.b\n");
        let gone = import.commit("main", "nothing is left", &[next]);
        import.raw(b"deleteall\n");
        let many = import.commit("main", "many", &[gone]);
        let names: Vec<String> = (0..3_000).map(|n| format!("m{}/{n}", n % 70)).collect();
        import.files(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let odd = import.commit_by(
            "main",
            b"\xfeA\xff",
            "4102444800 +9959",
            b"\xe4\xff\nbody",
            &[many],
        );
        import.files(&["m0/0/sub"]);
        import.raw(b"D m1\n");
        import.commit_by("main", b"", "99999999999999 -1234", b"\n\n", &[odd]);
        import.files(&["late"]);
        made.import(&import);
        made.ancient();
        made.signed();
        made.mislead();
        made
    }

    /// Two commits as they were once made: files that the group may write, which Git still knows the
    /// trees of, but shows as others.
    fn ancient(&self) {
        let blob = self.git(&["rev-parse", "main:late"]);
        let raw: Vec<u8> = blob
            .trim()
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        for mode in ["100664", "100644"] {
            let mut tree = format!("{mode} old\0").into_bytes();
            tree.extend_from_slice(&raw);
            self.commit_tree(&tree);
        }
    }

    /// A commit whose signature Git would have looked at, by a program that the settings name.
    fn signed(&self) {
        let [tree, parent] = ["main^{tree}", "main"].map(|what| self.git(&["rev-parse", what]));
        let who = "A U Thor <author@example.com> 1000000000 +0000";
        let signature =
            "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n";
        let commit = format!(
            "tree {tree}parent {parent}author {who}\ncommitter {who}\n{signature}\nsigned\n"
        );
        let commit = self.put("commit", commit.as_bytes());
        self.git(&["update-ref", "refs/heads/main", &commit]);
    }

    /// Replaced commits and grafts are somebody's local view, not the history.
    fn mislead(&self) {
        let (some, first) = (self.commit(5), self.commit(0));
        self.git(&["replace", &some, &first]);
        let grafts = format!("{}\n", self.commit(9));
        std::fs::write(self.path.join(".git/info/grafts"), grafts).unwrap();
        self.git(&["config", "submodule.module.ignore", "all"]);
        self.git(&["config", "diff.ignoreSubmodules", "all"]);
    }

    /// A tree that no list of paths can tell.
    pub(crate) fn odd() -> Self {
        let made = Self::empty("sha1");
        let hollow = made.put("tree", b"");
        let raw: Vec<u8> = (0..20)
            .map(|at| u8::from_str_radix(&hollow[at * 2..at * 2 + 2], 16).unwrap())
            .collect();
        made.commit_tree(&[&b"40000 hollow\0"[..], &raw].concat());
        made
    }

    /// Commits of which each is larger than one event, and whose state is larger than Mente folds to.
    pub(crate) fn large() -> Self {
        let made = Self::empty("sha1");
        let mut import = Import::new();
        let mut last = import.commit("main", "small", &[]);
        import.files(&["small"]);
        for half in 0..2 {
            last = import.commit("main", "large", &[last]);
            let names: Vec<String> = (0..9_000)
                .map(|n| format!("some/directory/{half}/of-many/{}/file-{n}", n % 50))
                .collect();
            import.files(&names.iter().map(String::as_str).collect::<Vec<_>>());
        }
        made.import(&import);
        made
    }

    fn commit_tree(&self, content: &[u8]) {
        let tree = self.put("tree", content);
        let parent = self.git(&["rev-parse", "--quiet", "--verify", "main", "--"]);
        let parent = parent.lines().next().unwrap_or_default().to_owned();
        let mut words = vec!["commit-tree", "-m", "by hand"];
        if !parent.starts_with('-') && !parent.is_empty() {
            words.extend(["-p", &parent]);
        }
        words.push(&tree);
        let commit = self.git(&words);
        self.git(&["update-ref", "refs/heads/main", commit.trim()]);
    }

    /// Keeps an object as it is given.
    fn put(&self, kind: &str, content: &[u8]) -> String {
        let words = ["hash-object", "-w", "--literally", "--stdin", "-t", kind];
        self.fed(&words, content).trim().to_owned()
    }

    fn import(&self, import: &Import) {
        let words = ["fast-import", "--quiet", "--date-format=raw-permissive"];
        self.fed(&words, &import.text);
    }

    fn git(&self, words: &[&str]) -> String {
        self.fed(words, b"")
    }

    fn fed(&self, words: &[&str], input: &[u8]) -> String {
        let mut git = Command::new("git");
        git.args(words).current_dir(&self.path);
        for who in ["GIT_AUTHOR", "GIT_COMMITTER"] {
            git.env(format!("{who}_NAME"), "A U Thor");
            git.env(format!("{who}_EMAIL"), "author@example.com");
        }
        git.env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_GRAFT_FILE", "/dev/null/none")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = git.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let is_question = words.contains(&"--verify");
        assert!(output.status.success() || is_question, "git {words:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Import {
    fn new() -> Self {
        Self {
            text: Vec::new(),
            marks: 0,
        }
    }

    /// Begins a commit; its changes follow.
    fn commit(&mut self, branch: &str, message: &str, parents: &[u32]) -> u32 {
        let when = format!("{} +0545", 1_000_000_000 + self.marks);
        self.commit_by(branch, b"A U Thor", &when, message.as_bytes(), parents)
    }

    fn commit_by(
        &mut self,
        branch: &str,
        name: &[u8],
        when: &str,
        message: &[u8],
        parents: &[u32],
    ) -> u32 {
        self.marks += 1;
        let mark = self.marks;
        self.raw(format!("commit refs/heads/{branch}\nmark :{mark}\n").as_bytes());
        for who in ["author", "committer"] {
            self.raw(&[who.as_bytes(), b" ", name, b" <author@example.com> "].concat());
            self.raw(format!("{when}\n").as_bytes());
        }
        self.raw(format!("data {}\n", message.len()).as_bytes());
        self.raw(message);
        let mut words = String::from("\n");
        for (index, parent) in parents.iter().enumerate() {
            let word = if index == 0 { "from" } else { "merge" };
            writeln!(words, "{word} :{parent}").unwrap();
        }
        self.raw(words.as_bytes());
        mark
    }

    /// Puts files there that hold their names.
    fn files(&mut self, names: &[&str]) {
        for name in names {
            let head = format!("M 644 inline \"{name}\"\ndata {}\n{name}\n", name.len());
            self.raw(head.as_bytes());
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
    }
}
