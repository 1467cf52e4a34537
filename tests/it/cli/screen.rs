//! A program in its own terminal: reads the screen and sends keys.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::lab::{PATIENCE, wait_until};

/// A terminal in which a program runs.
pub(super) struct Screen {
    keys: File,
    terminal: Arc<Mutex<vt100::Parser>>,
    child: Mutex<Child>,
}

impl Screen {
    /// Starts a command in a terminal of this size. Redirections of the command are ignored.
    pub(super) fn start(command: &Command, columns: u16, lines: u16) -> Screen {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("its name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = File::from(rustix::fs::open(name, flags, Mode::empty()).expect("its other end"));
        tcsetwinsize(&slave, Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).expect("its size");
        // In its own session, so that the program sees the size of this terminal and not of the terminal that runs the tests.
        let mut inside = Command::new("setsid");
        inside.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let end = || slave.try_clone().expect("another handle");
        let child = inside.stdin(end()).stdout(end()).stderr(end()).spawn().expect("starts");
        let keys = File::from(master);
        let terminal = Arc::new(Mutex::new(vt100::Parser::new(lines, columns, 0)));
        let (mut drawn, screen) = (keys.try_clone().expect("another handle"), terminal.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The read fails as soon as no process has the other end open.
            while let Ok(read @ 1..) = drawn.read(&mut buffer) {
                screen.lock().expect("whole").process(&buffer[..read]);
            }
        });
        Screen { keys, terminal, child: Mutex::new(child) }
    }

    pub(super) fn type_keys(&self, keys: &str) {
        (&self.keys).write_all(keys.as_bytes()).expect("typed");
    }

    /// Waits until the screen shows all of these texts at the same time.
    pub(super) async fn wait_for(&self, texts: &[&str]) {
        let contents = || self.terminal.lock().expect("whole").screen().contents();
        let started = std::time::Instant::now();
        loop {
            let now = contents();
            if texts.iter().all(|text| now.contains(text)) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{texts:?} in\n{now}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    pub(super) fn signal(&self, signal: &str) {
        let pid = self.child.lock().expect("whole").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    /// Waits for the end of the program. The terminal must be restored.
    pub(super) async fn ended(&self) -> Option<i32> {
        let has_ended = || self.child.lock().expect("whole").try_wait().expect("status").is_some();
        wait_until("the program ends", has_ended).await;
        let is_restored = || {
            let terminal = self.terminal.lock().expect("whole");
            !terminal.screen().alternate_screen() && !terminal.screen().hide_cursor()
        };
        wait_until("the terminal is restored", is_restored).await;
        self.child.lock().expect("whole").wait().expect("status").code()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A failed test leaves the program running.
        let mut child = self.child.lock().expect("whole");
        let _gone = child.kill().and_then(|()| child.wait());
    }
}
