//! The terminal while `watch` has it: another screen, keys as they are pressed. However the program ends, the terminal is then
//! as it was: dropping this restores it, and so does a panic before it says anything.

use std::io::{self, BufWriter, Stdout};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::style::force_color_output;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};

use crate::error::{Context, Result};

/// A terminal in use.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    /// Takes the terminal that standard input and output are; with colours or without, whatever NO_COLOR says.
    ///
    /// # Errors
    /// They are none, or it is gone.
    pub fn open(has_colour: bool) -> Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let say = panic::take_hook();
            panic::set_hook(Box::new(move |what| {
                restore();
                say(what);
            }));
        });
        // Whether there are colours is decided elsewhere (--color).
        force_color_output(has_colour);
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(io::stdout())));
        let screen = Self { terminal: terminal.context(failed)? };
        take().context(failed)?;
        Ok(screen)
    }

    /// Shows what `draw` draws; only what has changed is sent.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn show(&mut self, draw: impl FnOnce(&mut Buffer)) -> Result<()> {
        self.terminal.draw(|frame| draw(frame.buffer_mut())).context(failed)?;
        Ok(())
    }

    /// Forgets what the terminal shows, so that all of it is sent the next time.
    ///
    /// # Errors
    /// As of [`Screen::show`].
    pub fn clear(&mut self) -> Result<()> {
        self.terminal.clear().context(failed)
    }

    /// Gives the terminal back, stops this process as Ctrl-Z does, and takes it again when somebody lets it go on.
    ///
    /// # Errors
    /// As of [`Screen::show`].
    pub fn suspend(&mut self) -> Result<()> {
        restore();
        kill(getpid(), Signal::SIGTSTP).context(|| "cannot stop".into())?;
        take().context(failed)?;
        self.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Whether the terminal is taken. Given back twice, it would have its cursor where that was before.
static TAKEN: AtomicBool = AtomicBool::new(false);

fn take() -> io::Result<()> {
    TAKEN.store(true, Ordering::Relaxed);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)
}

/// As far as it is still there.
fn restore() {
    if !TAKEN.swap(false, Ordering::Relaxed) {
        return;
    }
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

fn failed() -> String {
    "cannot use the terminal".into()
}
