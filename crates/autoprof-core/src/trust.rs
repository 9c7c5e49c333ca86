//! Whether somebody else could have put a file there: plugins and client programs run with the user's rights, and a run's
//! directory says what is done on hosts.
//!
//! A path is walked by descriptors, a component at a time, and everything on the way is checked by the descriptor that
//! leads on: what is renamed or linked meanwhile changes nothing that was checked.
use std::{
    ffi::{OsStr, OsString},
    fs,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Component, Path, PathBuf},
};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::{
    fs::{FileType, Mode, OFlags, Stat, fstat, getxattr_query, open, openat, readlinkat},
    io::Errno,
    process::{getegid, geteuid},
};

/// As many links as the kernel follows in one path.
const MAX_LINKS: usize = 40;
/// Opens nothing for reading: no FIFO waits, no device acts.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Where rights for more users than owner and group are kept.
const ACCESS_LIST: &str = "system.posix_acl_access";

/// Which files may be loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those that only root and the user could have put there.
    #[default]
    Owned,
    /// All.
    Any,
}

/// Why a file or directory is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// It could not be looked at.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// Its name cannot be shown or recorded.
    #[error("its name is not UTF-8")]
    NameNotUtf8,
    /// Somebody else could have put it there, or can change it.
    #[error("{path} {reason}")]
    Untrusted {
        /// The file, or a directory above it.
        path: Utf8PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that a run never makes.
    #[error("{path} is a {kind}")]
    Odd {
        /// The link, FIFO, socket or device.
        path: Utf8PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Directories in directories without end.
    #[error("{path} is deeper than any run")]
    Deep {
        /// The directory.
        path: Utf8PathBuf,
    },
}

/// What a path leads to.
#[derive(Debug)]
pub struct Place {
    /// Where it is, absolute and without links.
    pub path: Utf8PathBuf,
    /// It, opened for nothing but to be looked at.
    pub fd: OwnedFd,
    /// What it is.
    pub stat: Stat,
}

/// Finds what a path leads to, and checks it and every directory and link on the way.
///
/// # Errors
/// When it is not there, or something on the way belongs to, or can be written by, somebody other than root and the
/// user.
pub fn find(path: &Utf8Path, trust: Trust) -> Result<Place, TrustError> {
    Walk::to(path, trust)?.arrive()
}

/// A directory that was found and checked, for what is in it: the way to it is walked once for all of that.
pub struct Directory {
    path: Utf8PathBuf,
    walk: Walk,
}

impl Directory {
    /// Finds a directory as [`find`] does.
    ///
    /// # Errors
    /// As [`find`].
    pub fn find(path: &Utf8Path, trust: Trust) -> Result<Self, TrustError> {
        Ok(Self { path: path.to_owned(), walk: Walk::to(path, trust)? })
    }

    /// Finds what is in it by a name.
    ///
    /// # Errors
    /// As [`find`].
    pub fn entry(&mut self, name: &str) -> Result<Place, TrustError> {
        let depth = self.walk.way.len();
        self.walk.go(name.into())?;
        if self.walk.way.len() == depth + 1 && self.walk.ahead.is_empty() {
            return self.walk.arrive();
        }
        // A link leads elsewhere, which is a way of its own.
        let path = self.path.join(name);
        *self = Self::find(&self.path, self.walk.trust)?;
        find(&path, self.walk.trust)
    }
}

struct Walk {
    /// From the root to where the walk is; never empty.
    way: Vec<Step>,
    /// Names that are still to be gone through, the next one last.
    ahead: Vec<OsString>,
    links: usize,
    trust: Trust,
}

impl Walk {
    /// Goes all the way.
    fn to(path: &Utf8Path, trust: Trust) -> Result<Self, TrustError> {
        // Mounts what is mounted when it is used, which a look alone does not.
        fs::metadata(path)?;
        let mut walk = Self { way: vec![Step::root()?], ahead: Vec::new(), links: 0, trust };
        walk.way[0].check(&walk.shown(), trust)?;
        walk.aim(&std::path::absolute(path)?);
        while let Some(name) = walk.ahead.pop() {
            walk.go(name)?;
        }
        Ok(walk)
    }

    /// Takes the last step off, as what was looked for.
    fn arrive(&mut self) -> Result<Place, TrustError> {
        let path = Utf8PathBuf::from_path_buf(self.path()).map_err(|_| TrustError::NameNotUtf8)?;
        let last = self.way.pop().ok_or(Errno::NOENT).map_err(std::io::Error::from)?;
        Ok(Place { path, fd: last.fd, stat: last.stat })
    }

    fn aim(&mut self, path: &Path) {
        if path.is_absolute() {
            self.way.truncate(1);
        }
        let names = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        });
        let at = self.ahead.len();
        self.ahead.extend(names);
        self.ahead[at..].reverse();
    }

    fn go(&mut self, name: OsString) -> Result<(), TrustError> {
        let here = &self.way[self.way.len() - 1];
        if name == ".." {
            // The way has no links, so what is above is what was come from.
            if self.way.len() > 1 {
                self.way.pop();
            }
            return Ok(());
        }
        let fd = openat(&here.fd, &name, LOOK, Mode::empty()).map_err(std::io::Error::from)?;
        let stat = fstat(&fd).map_err(std::io::Error::from)?;
        let step = Step { name, fd, stat, shared: here.is_shared() };
        let shown = self.path().join(&step.name);
        step.check(&shown.to_string_lossy(), self.trust)?;
        if step.kind() != FileType::Symlink {
            self.way.push(step);
            return Ok(());
        }
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(std::io::Error::from(Errno::LOOP).into());
        }
        let target = readlinkat(&step.fd, "", Vec::new()).map_err(std::io::Error::from)?;
        self.aim(Path::new(OsStr::from_bytes(target.as_bytes())));
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.way.iter().map(|step| &step.name).collect()
    }

    fn shown(&self) -> String {
        self.path().to_string_lossy().into_owned()
    }
}

struct Step {
    name: OsString,
    fd: OwnedFd,
    stat: Stat,
    /// Others can put names into the directory that this is in.
    shared: bool,
}

impl Step {
    fn root() -> Result<Self, TrustError> {
        let fd = open("/", LOOK, Mode::empty()).map_err(std::io::Error::from)?;
        let stat = fstat(&fd).map_err(std::io::Error::from)?;
        Ok(Self { name: OsString::from_vec(b"/".to_vec()), fd, stat, shared: false })
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// A directory in which everybody may put names, and take away only their own.
    fn is_shared(&self) -> bool {
        is_shared(&self.stat)
    }

    fn check(&self, shown: &str, trust: Trust) -> Result<(), TrustError> {
        match self.complaint() {
            Some(reason) if trust == Trust::Owned => {
                Err(TrustError::Untrusted { path: Utf8PathBuf::from(shown), reason })
            }
            _ => Ok(()),
        }
    }

    /// How somebody else could have put it there, or could put something else there.
    fn complaint(&self) -> Option<String> {
        complaint(&self.fd, &self.stat, self.shared)
    }
}

fn is_shared(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        && stat.st_mode & 0o1000 != 0
        && stat.st_mode & 0o022 != 0
}

/// How somebody else could have put it there, or could put something else there. `shared`: others can put names beside it.
fn complaint(fd: &OwnedFd, stat: &Stat, shared: bool) -> Option<String> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let (mode, owner, gid) = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
    if owner != 0 && owner != user {
        return Some(format!("belongs to uid {owner}, who is neither you nor root"));
    }
    match FileType::from_raw_mode(stat.st_mode) {
        // Modes of links say nothing, and who can replace one is said by its directory.
        FileType::Symlink => return None,
        // Nobody can replace what is not theirs, and what is below is checked next.
        FileType::Directory if is_shared(stat) => return None,
        // Anybody may have given a file of yours, or an old one of root's, this name.
        FileType::RegularFile if shared && stat.st_nlink > 1 => {
            return Some(format!("has {} names, and others can put names beside it", stat.st_nlink));
        }
        _ => {}
    }
    if mode & 0o002 != 0 {
        return Some(format!("can be written by everyone (mode {mode:o})"));
    }
    if mode & 0o020 == 0 {
        return None;
    }
    // A group with the number of its user has, by custom, nobody else in it; another may be that of all users.
    if gid != 0 && !(gid == group && gid == user) {
        return Some(format!("can be written by group {gid} (mode {mode:o})"));
    }
    // With an access list these bits are the most that anybody in it may do.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let listed = getxattr_query(path, ACCESS_LIST).is_ok_and(|length| length > 0);
    listed.then(|| format!("can be written by others through its access list (mode {mode:o})"))
}

/// Checks a directory of programs: it, the way to it, and everything in it down to `depth` levels.
///
/// # Errors
/// When something there belongs to, or can be written by, somebody other than root and the user.
pub fn check_programs(directory: &Utf8Path, depth: usize) -> Result<(), TrustError> {
    find(directory, Trust::Owned)?;
    if depth == 0 {
        return Ok(());
    }
    for entry in directory.read_dir_utf8()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            check_programs(entry.path(), depth - 1)?;
        } else {
            find(entry.path(), Trust::Owned)?;
        }
    }
    Ok(())
}

/// Deepest directory of a run: a path of 1024 bytes below a host's directory.
const MAX_DEPTH: usize = 520;

/// Checks a run's directory: that nothing in it leads out of it, and, where that is asked for, that nobody else owns or can
/// write any of it.
///
/// # Errors
/// [`TrustError::Odd`] for a link, FIFO, socket or device whatever is trusted; [`TrustError::Untrusted`] when somebody
/// other than the user and root owns or can write something, or can replace the directory.
pub fn check_run(directory: &Utf8Path, trust: Trust) -> Result<(), TrustError> {
    // The directory may be named by a link (`latest`); nothing in it may be one.
    let real = directory.canonicalize_utf8()?;
    if trust == Trust::Owned {
        for above in real.ancestors().skip(1) {
            let fd = open(above.as_std_path(), LOOK, Mode::empty()).map_err(std::io::Error::from)?;
            let stat = fstat(&fd).map_err(std::io::Error::from)?;
            // Whoever owns a directory above is not asked: that is how homes and mounts are. Who else can write in it is.
            let others = stat.st_mode & 0o002 != 0 && stat.st_mode & 0o1000 == 0;
            if others {
                let reason = format!("can be written by everyone (mode {:o})", stat.st_mode & 0o7777);
                return Err(TrustError::Untrusted { path: above.to_owned(), reason });
            }
        }
    }
    let root = open(real.as_std_path(), LOOK | OFlags::DIRECTORY, Mode::empty()).map_err(std::io::Error::from)?;
    check_below(root, &real, trust, 0)
}

fn check_below(directory: OwnedFd, shown: &Utf8Path, trust: Trust, depth: usize) -> Result<(), TrustError> {
    if depth > MAX_DEPTH {
        return Err(TrustError::Deep { path: shown.to_owned() });
    }
    check_one(&directory, shown, trust)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directories = Vec::new();
    let listed = openat(&directory, ".", flags, Mode::empty()).map_err(std::io::Error::from)?;
    for entry in rustix::fs::Dir::new(listed).map_err(std::io::Error::from)? {
        let entry = entry.map_err(std::io::Error::from)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let here = shown.join(String::from_utf8_lossy(name).as_ref());
        let fd = openat(&directory, entry.file_name(), LOOK, Mode::empty()).map_err(std::io::Error::from)?;
        match FileType::from_raw_mode(fstat(&fd).map_err(std::io::Error::from)?.st_mode) {
            FileType::Directory => directories.push((entry.file_name().to_owned(), here)),
            FileType::RegularFile => check_one(&fd, &here, trust)?,
            FileType::Symlink => return Err(TrustError::Odd { path: here, kind: "symbolic link" }),
            FileType::Fifo => return Err(TrustError::Odd { path: here, kind: "FIFO" }),
            FileType::Socket => return Err(TrustError::Odd { path: here, kind: "socket" }),
            _ => return Err(TrustError::Odd { path: here, kind: "device" }),
        }
    }
    for (name, here) in directories {
        let fd = openat(&directory, name, LOOK, Mode::empty()).map_err(std::io::Error::from)?;
        check_below(fd, &here, trust, depth + 1)?;
    }
    Ok(())
}

fn check_one(fd: &OwnedFd, shown: &Utf8Path, trust: Trust) -> Result<(), TrustError> {
    let stat = fstat(fd).map_err(std::io::Error::from)?;
    if trust == Trust::Any {
        return Ok(());
    }
    let reason = if is_shared(&stat) {
        Some(format!("can be written by others (mode {:o})", stat.st_mode & 0o7777))
    } else {
        complaint(fd, &stat, false)
    };
    match reason {
        Some(reason) => Err(TrustError::Untrusted { path: shown.to_owned(), reason }),
        None => Ok(()),
    }
}
