//! Whether somebody else could have put a file there: a plugin runs with the user's rights.
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

use crate::PluginFileError;

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

/// What a path leads to.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where it is, absolute and without links.
    pub(crate) path: Utf8PathBuf,
    /// It, opened for nothing but to be looked at.
    pub(crate) fd: OwnedFd,
    /// What it is.
    pub(crate) stat: Stat,
}

/// Finds what a path leads to, and checks it and every directory and link on the way.
///
/// # Errors
/// When it is not there, or something on the way belongs to, or can be written by, somebody other than root and the
/// user.
pub(crate) fn find(path: &Utf8Path, trust: Trust) -> Result<Place, PluginFileError> {
    Walk::to(path, trust)?.arrive()
}

/// A directory that was found and checked, for what is in it: the way to it is walked once for all of that.
pub(crate) struct Directory {
    path: Utf8PathBuf,
    walk: Walk,
}

impl Directory {
    /// Finds a directory as [`find`] does.
    ///
    /// # Errors
    /// As [`find`].
    pub(crate) fn find(path: &Utf8Path, trust: Trust) -> Result<Self, PluginFileError> {
        Ok(Self { path: path.to_owned(), walk: Walk::to(path, trust)? })
    }

    /// Finds what is in it by a name.
    ///
    /// # Errors
    /// As [`find`].
    pub(crate) fn entry(&mut self, name: &str) -> Result<Place, PluginFileError> {
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
    fn to(path: &Utf8Path, trust: Trust) -> Result<Self, PluginFileError> {
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
    fn arrive(&mut self) -> Result<Place, PluginFileError> {
        let path = Utf8PathBuf::from_path_buf(self.path()).map_err(|_| PluginFileError::NameNotUtf8)?;
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

    fn go(&mut self, name: OsString) -> Result<(), PluginFileError> {
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
    fn root() -> Result<Self, PluginFileError> {
        let fd = open("/", LOOK, Mode::empty()).map_err(std::io::Error::from)?;
        let stat = fstat(&fd).map_err(std::io::Error::from)?;
        Ok(Self { name: OsString::from_vec(b"/".to_vec()), fd, stat, shared: false })
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// A directory in which everybody may put names, and take away only their own.
    fn is_shared(&self) -> bool {
        self.kind() == FileType::Directory && self.stat.st_mode & 0o1000 != 0 && self.stat.st_mode & 0o022 != 0
    }

    fn check(&self, shown: &str, trust: Trust) -> Result<(), PluginFileError> {
        match self.complaint() {
            Some(reason) if trust == Trust::Owned => {
                Err(PluginFileError::Untrusted { path: Utf8PathBuf::from(shown), reason })
            }
            _ => Ok(()),
        }
    }

    /// How somebody else could have put it there, or could put something else there.
    fn complaint(&self) -> Option<String> {
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        let (mode, owner, gid) = (self.stat.st_mode & 0o7777, self.stat.st_uid, self.stat.st_gid);
        if owner != 0 && owner != user {
            return Some(format!("belongs to uid {owner}, who is neither you nor root"));
        }
        match self.kind() {
            // Modes of links say nothing, and who can replace one is said by its directory.
            FileType::Symlink => return None,
            // Nobody can replace what is not theirs, and what is below is checked next.
            FileType::Directory if self.is_shared() => return None,
            // Anybody may have given a file of yours, or an old one of root's, this name.
            FileType::RegularFile if self.shared && self.stat.st_nlink > 1 => {
                return Some(format!("has {} names, and others can put names beside it", self.stat.st_nlink));
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
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let listed = getxattr_query(path, ACCESS_LIST).is_ok_and(|length| length > 0);
        listed.then(|| format!("can be written by others through its access list (mode {mode:o})"))
    }
}
