//! Whether there is a display to open a window on. The window system ends the program when there is none, so it is asked
//! first.

/// Whether a window can be opened here, or why not.
pub(crate) fn there_is_one() -> Result<(), String> {
    #[cfg(all(unix, not(target_os = "macos")))]
    {
        let display = std::env::var("DISPLAY").unwrap_or_default();
        x11(&display)
    }
    #[cfg(not(all(unix, not(target_os = "macos"))))]
    Ok(())
}

/// Whether an X server answers at `display`.
#[cfg(all(unix, not(target_os = "macos")))]
fn x11(display: &str) -> Result<(), String> {
    if display.is_empty() {
        return Err("There is no display here (DISPLAY is not set)".into());
    }
    let Some(number) = local_number(display) else {
        return Ok(()); // On another machine: only opening the window will tell.
    };
    match std::os::unix::net::UnixStream::connect(format!("/tmp/.X11-unix/X{number}")) {
        Ok(_) => Ok(()),
        // Some servers listen on an abstract socket only, which needs no file.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && abstract_socket(number) => Ok(()),
        Err(error) => Err(format!("The display {display} does not answer ({error})")),
    }
}

/// The number of a display on this machine, such as 0 of `:0.0`.
#[cfg(all(unix, not(target_os = "macos")))]
fn local_number(display: &str) -> Option<u32> {
    let number = display.strip_prefix("unix").unwrap_or(display).strip_prefix(':')?;
    number.split('.').next()?.parse().ok()
}

#[cfg(target_os = "linux")]
fn abstract_socket(number: u32) -> bool {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};
    SocketAddr::from_abstract_name(format!("/tmp/.X11-unix/X{number}"))
        .and_then(|address| UnixStream::connect_addr(&address))
        .is_ok()
}

#[cfg(all(unix, not(target_os = "macos"), not(target_os = "linux")))]
fn abstract_socket(_: u32) -> bool {
    false
}

#[cfg(all(test, unix, not(target_os = "macos")))]
mod tests {
    use super::*;

    #[test]
    fn displays_are_told_apart() {
        assert_eq!(local_number(":0"), Some(0));
        assert_eq!(local_number(":92.0"), Some(92));
        assert_eq!(local_number("unix:1"), Some(1));
        assert_eq!(local_number("elsewhere:0"), None);
    }

    #[test]
    fn no_display_is_said_in_words() {
        assert!(x11("").unwrap_err().contains("DISPLAY"));
        assert!(x11(":64999").unwrap_err().contains("does not answer"));
    }
}
