//! Power cuts: the data lies on a file system of its own, in a file that is mounted through a loop
//! device. To cut the power is to shut that file system down under the running server, without
//! writing back its log: what was not synced is gone, and its real recovery runs at the next mount.
//! The write cache of a device is not modelled: what reached the loop device stays.
//!
//! All of it happens in a mount namespace of this process alone. Mounts live in no other, and a
//! loop device goes with its mount: whatever ends this process leaves neither behind.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Size of an image; it holds holes until something is written there.
const IMAGE_BYTES: u64 = 2 << 30;
/// Says that this process is in a namespace of its own already.
const INSIDE: &str = "MENTE_CHAOS_NAMESPACE";
/// What is needed for every file system, with its Debian package.
const PROGRAMS: [(&str, &str); 5] = [
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("xfs_io", "xfsprogs"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    pub(super) const ALL: [Self; 2] = [Self::Ext4, Self::Xfs];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// What histories call a power cut on it.
    pub(super) fn cut(self) -> &'static str {
        match self {
            Self::Ext4 => "cut_ext4",
            Self::Xfs => "cut_xfs",
        }
    }

    /// Programs that make and check it, with their Debian package.
    fn programs(self) -> ([&'static str; 2], &'static str) {
        match self {
            Self::Ext4 => (["mkfs.ext4", "e2fsck"], "e2fsprogs"),
            Self::Xfs => (["mkfs.xfs", "xfs_repair"], "xfsprogs"),
        }
    }
}

/// Starts this very command again in a mount namespace of its own, and does not come back unless
/// it is there already. `Err` says why the power cannot be cut here.
pub(super) fn enter() -> Result<(), String> {
    if env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    if !cfg!(target_os = "linux") {
        return Err("only Linux has the call that shuts a file system down".into());
    }
    if !fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
        return Err("only root may mount; run it as root".into());
    }
    for (program, package) in PROGRAMS {
        find(program, package)?;
    }
    let probe = ["--mount", "--propagation", "private"];
    run("unshare", |unshare| unshare.args(probe).arg("true")).map_err(|e| format!("{e:#}"))?;
    let me = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut again = Command::new("unshare");
    again
        .args(probe)
        .arg("--")
        .arg(me)
        .args(env::args_os().skip(1));
    Err(format!("unshare: {}", again.env(INSIDE, "1").exec()))
}

/// Cuts the power of an empty file system, to see whether that works here; else why not.
pub(super) fn probe(file_system: FileSystem) -> Result<(), String> {
    let (programs, package) = file_system.programs();
    for program in programs {
        find(program, package)?;
    }
    let attempt = || {
        let folder = tempfile::tempdir()?;
        let mut image = Image::make(folder.path(), file_system)?;
        let (kept, gone) = (image.data().join("kept"), image.data().join("gone"));
        File::create(&kept)?.sync_all()?;
        File::open(image.data())?.sync_all()?;
        File::create(&gone)?;
        image.cut()?;
        image.remount()?;
        if !kept.exists() || gone.exists() {
            bail!("the file system was shut down, and what was not synced is still there");
        }
        image.close()
    };
    attempt().map_err(|error: anyhow::Error| format!("{error:#}"))
}

/// A file system in a file, mounted.
#[derive(Debug)]
pub(super) struct Image {
    file_system: FileSystem,
    file: PathBuf,
    mount: PathBuf,
}

impl Image {
    pub(super) fn make(folder: &Path, file_system: FileSystem) -> Result<Self> {
        let image = Self {
            file_system,
            file: folder.join(format!("disk.{}", file_system.name())),
            mount: folder.join("disk"),
        };
        File::create(&image.file)?.set_len(IMAGE_BYTES)?;
        fs::create_dir_all(&image.mount)?;
        run(file_system.programs().0[0], |mkfs| {
            mkfs.arg("-q").arg(&image.file)
        })?;
        image.mount()?;
        Ok(image)
    }

    /// Where the server may write.
    pub(super) fn data(&self) -> &Path {
        &self.mount
    }

    fn mount(&self) -> Result<()> {
        run("mount", |mount| {
            mount.args([
                "-o",
                "loop,nodev,nosuid,noexec",
                "-t",
                self.file_system.name(),
            ]);
            mount.arg(&self.file).arg(&self.mount)
        })
    }

    /// From now on every write and sync fails, and what was not synced is gone.
    pub(super) fn cut(&self) -> Result<()> {
        // `shutdown` is the ioctl XFS_IOC_GOINGDOWN without a flush of the log; ext4 has it too.
        run("xfs_io", |xfs_io| {
            xfs_io.args(["-x", "-c", "shutdown"]).arg(&self.mount)
        })
    }

    /// Mounts it again as after a power cut; nobody may have it open.
    pub(super) fn remount(&mut self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn unmount(&self) -> Result<()> {
        // The kernel lets go of a killed process's files a moment later.
        for _ in 0..100 {
            if run("umount", |umount| umount.arg(&self.mount)).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        run("umount", |umount| umount.arg(&self.mount))
    }

    /// Unmounts it for good and has it checked by its own tool.
    pub(super) fn close(self) -> Result<()> {
        self.unmount()?;
        let check = self.file_system.programs().0[1];
        run(check, |check| {
            check.arg(match self.file_system {
                FileSystem::Ext4 => "-fn",
                FileSystem::Xfs => "-n",
            });
            check.arg(&self.file)
        })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // After `close` this finds nothing; else lazily, since somebody may still look at it.
        let _ = run("umount", |umount| umount.arg("--lazy").arg(&self.mount));
    }
}

pub(super) fn find(program: &str, package: &str) -> Result<(), String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = env::split_paths(&path);
    if folders.any(|folder| folder.join(program).exists()) {
        return Ok(());
    }
    Err(format!("{program} is not there (Debian: {package})"))
}

/// Runs a program to its end; its own words are the error.
fn run(program: &str, with: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
    let mut command = Command::new(program);
    let output = with(&mut command).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("{program}: {}: {}", output.status, said.trim())
}
