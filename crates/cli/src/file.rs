//! Files that are whole or not there.

use std::{
    io::{self, Write},
    path::Path,
};

/// Writes `file` through a temporary file beside it, flushed to disk and then renamed over it.
///
/// The file gets mode 0600, since what these programs write may hold personal data. A reader sees the old content or the
/// new one, also after a crash. Where `file` is a link, the file that it leads to is replaced. A device or a pipe, such as
/// `/dev/null`, is written to: it must not be replaced.
///
/// # Errors
///
/// Fails where `write` fails or the folder cannot be written; `file` is then unchanged and nothing is left beside it.
pub fn write_atomically(
    file: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let target = file.canonicalize();
    let file = target.as_deref().unwrap_or(file);
    if file.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        let mut buffer = io::BufWriter::new(std::fs::OpenOptions::new().write(true).open(file)?);
        write(&mut buffer)?;
        return buffer.flush();
    }
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder)?;
    let mut temporary = tempfile::Builder::new().prefix(".omnitool-").tempfile_in(folder)?;
    {
        let mut buffer = io::BufWriter::with_capacity(1 << 16, temporary.as_file_mut());
        write(&mut buffer)?;
        buffer.flush()?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(file).map_err(|error| error.error)?;
    // The rename itself is durable only when the folder is on disk, too.
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("export.json");
        write_atomically(&file, |w| w.write_all(b"old")).unwrap();
        let result = write_atomically(&file, |w| {
            w.write_all(b"half of the new")?;
            Err(io::Error::other("stopped"))
        });
        assert!(result.is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("export.json"), folder.path().join("latest.json"));
        std::fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_atomically(&link, |w| w.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert!(link.is_symlink());
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_written_to_and_not_replaced() {
        use std::os::unix::fs::FileTypeExt as _;

        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read(pipe).unwrap()
        });
        write_atomically(&pipe, |w| w.write_all(b"report")).unwrap();
        assert!(pipe.symlink_metadata().unwrap().file_type().is_fifo());
        assert_eq!(reader.join().unwrap(), b"report");
    }
}
