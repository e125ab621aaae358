//! The `postern` program: arguments, configuration, runtime, exit code.

use std::{
    io::{IsTerminal, Write, stderr, stdout},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use postern::{
    app::Proxy,
    cli::{Cli, Command, EXIT_CONFIG, EXIT_OK, LogFormat},
    clock::Clock,
    commands::{self, Answer, Ask},
    config::{self, Config, Environment, Loaded, Problem, Purpose, Report},
    doctor,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tracing::{error, info, warn};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Chosen on evidence: with the system's, memory of players who left is not given back (ARCHITECTURE.md, "Cost").
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Anything that is neither usage nor configuration: a port in use, a store in use, no memory.
const EXIT_FAILED: u8 = 1;

/// Log lines that may wait for whoever reads standard error; some 200 bytes each.
const LOG_QUEUE: usize = 8192;

fn main() -> ExitCode {
    let started = Instant::now();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return ExitCode::from(code),
    };
    ExitCode::from(match cli.command() {
        Command::Run => run(&cli, started),
        Command::Check => check(&cli),
        Command::Doctor { json } => doctor(&cli, json),
        Command::Readiness { with, names, json } => readiness(&cli, with.as_deref(), names, json),
        Command::Sessions { action } => ask(&cli, &Ask::Sessions(action)),
        Command::Bans { action } => ask(&cli, &Ask::Bans(action)),
    })
}

fn environment() -> Environment {
    let secret = |name| std::env::var(name).ok().map(Into::into);
    Environment {
        postern_forwarding_secret: secret("POSTERN_FORWARDING_SECRET"),
        velocity_forwarding_secret: secret("VELOCITY_FORWARDING_SECRET"),
    }
}

/// Prints on standard output. If nobody reads, the exit code still tells.
fn print(text: &str) {
    let mut out = stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn lines(findings: &[Problem]) -> String {
    findings.iter().fold(String::new(), |text, finding| text + &finding.to_string() + "\n")
}

/// `postern check`: every problem, or `ok`.
fn check(cli: &Cli) -> u8 {
    match config::load(cli.config_path(), &environment(), Purpose::Check) {
        Ok(Loaded { warnings, notes, .. }) => {
            print(&format!("{}{}ok\n", lines(&warnings), lines(&notes)));
            EXIT_OK
        }
        Err(report) => {
            print(&format!("{report}\n"));
            EXIT_CONFIG
        }
    }
}

/// `postern doctor`: what is well here, what is not, and how to mend it.
fn doctor(cli: &Cli, json: bool) -> u8 {
    let loaded = config::load(cli.config_path(), &environment(), Purpose::Check);
    if !json && stderr().is_terminal() {
        let _ =
            writeln!(stderr(), "Examining this installation. Where nobody answers, that may take a minute.");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(stderr(), "cannot start the runtime: {error}");
            return EXIT_FAILED;
        }
    };
    let report = runtime.block_on(doctor::examine(loaded, &Clock::system()));
    // A name look-up that gets no answer holds its thread for long.
    runtime.shutdown_background();
    print(&if json { report.to_json() } else { report.to_string() });
    report.exit_code()
}

/// `postern readiness`: who could join if the session servers went down now.
fn readiness(cli: &Cli, with: Option<&Path>, names: bool, json: bool) -> u8 {
    let request = commands::readiness::Request {
        config: cli.config_path(),
        with,
        names,
        json,
        environment: &environment(),
        now: Clock::system().now(),
    };
    let mut err = stderr();
    let terminal: Option<&mut (dyn Write + Send)> = if err.is_terminal() { Some(&mut err) } else { None };
    let answer = commands::readiness::run(&request, terminal);
    // If nobody reads, the exit code still tells.
    let _ = err.write_all(answer.err.as_bytes());
    print(&answer.out);
    answer.code
}

/// A command about the store or a running proxy.
fn ask(cli: &Cli, what: &Ask) -> u8 {
    let config = match config::load(cli.config_path(), &environment(), Purpose::Check) {
        Ok(loaded) => loaded.config,
        Err(report) => {
            let _ = writeln!(stderr(), "{report}");
            return EXIT_CONFIG;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(stderr(), "cannot start the runtime: {error}");
            return EXIT_FAILED;
        }
    };
    let mut err = stderr();
    let terminal: Option<&mut dyn Write> = if err.is_terminal() { Some(&mut err) } else { None };
    let Answer { code, out, err: told } =
        runtime.block_on(commands::answer(what, &config, &Clock::system(), terminal));
    print(&out);
    // If nobody reads, the exit code still tells.
    let _ = err.write_all(told.as_bytes());
    code
}

/// `postern run`: until a signal ends it.
fn run(cli: &Cli, started: Instant) -> u8 {
    // Writes what is left when it goes.
    let _log = start_log(cli.log_format);
    if cli.uses_default_config() {
        match config::write_default(cli.config_path()) {
            Ok(written) => {
                for file in written {
                    info!(file = %file.display(), "first start: wrote this file; look through config.yml and set your backend");
                }
            }
            Err(error) => {
                error!(%error, "cannot write the default configuration into the working folder; use --config, or start where files can be written");
                return EXIT_FAILED;
            }
        }
    }
    let config = match config::load(cli.config_path(), &environment(), Purpose::Run) {
        Ok(Loaded { config, warnings, notes }) => {
            tell(&warnings, &notes);
            config
        }
        Err(report) => {
            let _ = writeln!(stderr(), "{report}");
            return EXIT_CONFIG;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start the runtime");
            return EXIT_FAILED;
        }
    };
    let code = runtime.block_on(serve(config, cli.config_path(), started));
    // What a stuck disk or look-up still holds must not keep the program from ending.
    runtime.shutdown_background();
    code
}

/// Starts the log on standard error. Lines go through a bounded queue; if nobody reads, further ones are lost.
fn start_log(format: LogFormat) -> WorkerGuard {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(LOG_QUEUE).lossy(true).finish(stderr());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    match format {
        LogFormat::Text => log.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => log.with_ansi(false).json().init(),
    }
    guard
}

/// Reads again when asked to, one read at a time: a disk that hangs must hold up neither the signals nor, asked for
/// often, ever more threads.
struct Rereading<T> {
    read: Arc<dyn Fn() -> T + Send + Sync>,
    under_way: Option<JoinHandle<T>>,
    /// Asked for once more since it began: what it reads may be out of date.
    again: bool,
}

impl<T: Send + 'static> Rereading<T> {
    fn new(read: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self { read: Arc::new(read), under_way: None, again: false }
    }

    fn ask(&mut self) {
        if self.under_way.is_some() {
            self.again = true;
        } else {
            let read = Arc::clone(&self.read);
            self.under_way = Some(tokio::task::spawn_blocking(move || read()));
        }
    }

    /// What was read last; never, if nobody asks. May be dropped and called anew.
    async fn done(&mut self) -> T {
        while let Some(reading) = &mut self.under_way {
            let read = reading.await;
            self.under_way = None;
            if std::mem::take(&mut self.again) {
                self.ask();
                continue;
            }
            match read {
                Ok(read) => return read,
                Err(error) => error!(%error, "could not read the configuration again"),
            }
        }
        std::future::pending().await
    }
}

/// Takes over a good configuration; of a bad one, nothing.
fn adopt(proxy: &Proxy, read: Result<Loaded, Report>) {
    match read {
        Ok(Loaded { config, warnings, notes }) => {
            tell(&warnings, &notes);
            proxy.reload(&config);
            info!("read the configuration again");
        }
        Err(report) => {
            for problem in report.problems() {
                error!("{problem}");
            }
            error!("the configuration has problems; nothing of it was taken over");
        }
    }
}

/// Findings of a good configuration.
fn tell(warnings: &[Problem], notes: &[Problem]) {
    for finding in warnings {
        warn!("{finding}");
    }
    for finding in notes {
        info!("{finding}");
    }
}

async fn serve(config: Config, path: &Path, started: Instant) -> u8 {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            error!(%error, "cannot listen for signals");
            return EXIT_FAILED;
        }
    };
    let proxy = match Proxy::start(config, Clock::system()).await {
        Ok(proxy) => proxy,
        Err(error) => {
            error!("{error}");
            return EXIT_FAILED;
        }
    };
    let addresses: Vec<String> = proxy.addresses().iter().map(ToString::to_string).collect();
    print(&format!(
        "Done ({:.3}s)! Listening on {}\n",
        started.elapsed().as_secs_f64(),
        addresses.join(", ")
    ));
    let path = path.to_owned();
    let mut rereading = Rereading::new(move || config::load(&path, &environment(), Purpose::Reload));
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::Reload => {
                    proxy.reopen_audit();
                    info!("opened audit.log anew");
                    rereading.ask();
                }
            },
            read = rereading.done() => adopt(&proxy, read),
        }
    }
    tokio::select! {
        () = proxy.stop() => EXIT_OK,
        () = signals.stop() => {
            warn!("stopping at once: what was not saved yet is lost");
            EXIT_FAILED
        }
    }
}

/// The signals that mean something.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    reload: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// The next thing asked of the program.
    async fn next(&mut self) -> Asked {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Asked::Stop,
            Some(()) = self.terminate.recv() => Asked::Stop,
            Some(()) = self.reload.recv() => Asked::Reload,
            else => std::future::pending().await,
        }
    }

    /// Returns when the program is asked to stop.
    async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Stop,
    Reload,
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    #[tokio::test]
    #[allow(clippy::unwrap_used, reason = "a test may panic")]
    async fn however_often_it_is_asked_for_one_reads_at_a_time_and_once_more() {
        let (began, mut beginnings) = tokio::sync::mpsc::unbounded_channel();
        let (disk, answers) = mpsc::channel();
        let answers = Mutex::new(answers);
        let mut rereading = Rereading::new(move || {
            // Whoever reads meanwhile would find it locked.
            let answers = answers.try_lock().unwrap();
            began.send(()).unwrap();
            answers.recv().unwrap()
        });
        for _ in 0..5 {
            rereading.ask();
        }
        beginnings.recv().await.unwrap();
        for _ in 0..5 {
            rereading.ask();
        }
        disk.send("old").unwrap();
        disk.send("new").unwrap();
        assert_eq!(rereading.done().await, "new");
        beginnings.recv().await.unwrap();
        assert!(beginnings.try_recv().is_err(), "it was read a third time");
        rereading.ask();
        disk.send("newer").unwrap();
        assert_eq!(rereading.done().await, "newer");
    }
}
