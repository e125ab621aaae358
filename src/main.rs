//! The `postern` program: arguments, configuration, runtime, exit code.

use std::{
    io::{BufWriter, IsTerminal, Write, stderr, stdout},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use postern::{
    app::{Proxy, Supervisor, Surroundings},
    cli::{AuditArguments, Cli, Command, EXIT_CONFIG, EXIT_OK, LogFormat},
    clock::Clock,
    commands::{self, Answer, Ask},
    config::{self, Config, Environment, Loaded, Problem, Purpose},
    doctor,
};
use tracing::{error, info, warn};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

mod signals;

use signals::{Asked, Signals};

/// Chosen on evidence: with the system's, memory of players who left is not given back (ARCHITECTURE.md, "Cost").
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Anything that is neither usage nor configuration: a port in use, a store in use, no memory.
const EXIT_FAILED: u8 = 1;

/// Log lines that may wait for whoever reads standard error; some 200 bytes each.
const LOG_QUEUE: usize = 8192;

/// Bytes printed at a time by commands that print much.
const OUTPUT_CHUNK: usize = 64 * 1024;

/// Between two looks at the end of audit.log, for `postern audit -f`.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

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
        Command::Audit(asked) => audit(&cli, &asked),
        Command::Bans { action } => ask(&cli, &Ask::Bans(action)),
        Command::Auth { action } => ask(&cli, &Ask::Auth(action)),
        Command::Players { json } => ask(&cli, &Ask::Players { json }),
        Command::Kick { player, reason } => ask(&cli, &Ask::Kick { player, reason }),
        Command::Health => health(&cli),
        Command::Paper(paper) => tell_answer(&commands::papers::write(&paper)),
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

/// `postern audit`: what audit.log says.
fn audit(cli: &Cli, asked: &AuditArguments) -> u8 {
    let loaded;
    let log = if asked.files.is_empty() {
        loaded = match config::load(cli.config_path(), &environment(), Purpose::Check) {
            Ok(loaded) => loaded.config,
            Err(report) => {
                let _ = writeln!(
                    stderr(),
                    "{report}\nnote: without a configuration, name the files: postern audit FILE…"
                );
                return EXIT_CONFIG;
            }
        };
        commands::audit::Log::Configured(&loaded)
    } else {
        commands::audit::Log::Named
    };
    let variable = |name| std::env::var_os(name);
    let (no_color, term) = (variable("NO_COLOR"), variable("TERM"));
    let mut terminal = commands::audit::Terminal {
        colour: commands::audit::has_colour(stdout().is_terminal(), no_color.as_deref(), term.as_deref()),
        out: &mut BufWriter::with_capacity(OUTPUT_CHUNK, stdout()),
        err: &mut stderr(),
        pause: &mut || {
            std::thread::park_timeout(FOLLOW_PAUSE);
            true
        },
    };
    commands::audit::run(asked, log, Clock::system().now(), &mut terminal)
}

/// A command about the store or a running proxy.
fn ask(cli: &Cli, what: &Ask) -> u8 {
    let loaded = config::load(cli.config_path(), &environment(), Purpose::Check);
    let runtime = match runtime_of_a_command() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let config = match loaded {
        Ok(loaded) => loaded.config,
        Err(report) => {
            let _ = writeln!(stderr(), "{report}");
            if let Some(answer) = runtime.block_on(commands::answer_all_the_same(what, cli.config_path())) {
                return tell_answer(&answer);
            }
            if what.is_for_the_proxy() {
                let _ = writeln!(
                    stderr(),
                    "note: a proxy that runs goes on with what it read before, and so do its console page and POST \
                     requests to its admin interface"
                );
            }
            return EXIT_CONFIG;
        }
    };
    let mut err = stderr();
    let terminal: Option<&mut dyn Write> = if err.is_terminal() { Some(&mut err) } else { None };
    let answer = runtime.block_on(commands::answer(what, &config, &Clock::system(), terminal));
    tell_answer(&answer)
}

/// `postern health`: whether the proxy is alive.
fn health(cli: &Cli) -> u8 {
    match runtime_of_a_command() {
        Ok(runtime) => tell_answer(&runtime.block_on(commands::health::health(cli.config_path()))),
        Err(code) => code,
    }
}

fn runtime_of_a_command() -> Result<tokio::runtime::Runtime, u8> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        let _ = writeln!(stderr(), "cannot start the runtime: {error}");
        EXIT_FAILED
    })
}

/// Prints what a command came to. If nobody reads, the exit code still tells.
fn tell_answer(answer: &Answer) -> u8 {
    print(&answer.out);
    let _ = stderr().write_all(answer.err.as_bytes());
    answer.code
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
    let environment = Arc::new(environment());
    let config = match config::load(cli.config_path(), &environment, Purpose::Run) {
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
    let surroundings = Surroundings { environment, supervisor: Supervisor::of_this_process() };
    let code = runtime.block_on(serve(config, surroundings, started));
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

/// Findings of a good configuration.
fn tell(warnings: &[Problem], notes: &[Problem]) {
    for finding in warnings {
        warn!("{finding}");
    }
    for finding in notes {
        info!("{finding}");
    }
}

async fn serve(config: Config, surroundings: Surroundings, started: Instant) -> u8 {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            error!(%error, "cannot listen for signals");
            return EXIT_FAILED;
        }
    };
    let proxy = match Proxy::start_in(config, Clock::system(), surroundings).await {
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
    while signals.next().await == Asked::Reload {
        // Also if the configuration is bad: whoever rotates the log has nothing to do with that.
        proxy.reopen_audit();
        info!("opened audit.log anew");
        // The log tells what comes of it. Not waited for: a disk may hang, and signals have to be heard.
        drop(proxy.reload());
    }
    tokio::select! {
        () = proxy.stop() => EXIT_OK,
        () = signals.stop() => {
            warn!("stopping at once: what was not saved yet is lost");
            EXIT_FAILED
        }
    }
}
