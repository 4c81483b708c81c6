//! The proxy between the clients of a conversation and its brokers, and what its rules did.
//!
//! Never: decides which rules there are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::cluster::Metadata;
use crate::client::{Conduct, Connection};
use crate::history::tap::{self, NoTap, Tap};
use crate::proxy::rule::{Act, Board, Class, Phase, Rules};
use crate::proxy::{self, Endpoint, Plan, Proxy};
use crate::world::Chance;

/// How long what rules held may take to go on.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);
const METADATA: i16 = 12;
/// Acts that a chart shows at most.
const ACTS_MAX: usize = 1000;
/// Connections of the proxy are numbered apart from those past it.
const FIRST_CONNECTION: u64 = 1 << 32;

/// What a rule did, and when.
pub type Done = (u64, String);

/// A proxy before the brokers of a conversation.
pub struct WayIn {
    proxy: Proxy,
    /// How connections to the proxy behave: what they say is recorded there.
    pub conduct: Conduct,
    done: Arc<Mutex<Vec<Done>>>,
}

impl WayIn {
    /// A proxy before brokers. `watch` hears of all that its rules do.
    ///
    /// # Errors
    /// In words, where it cannot listen or an address is none.
    pub async fn before(
        brokers: &[String],
        conduct: &Conduct,
        tap: Arc<dyn Tap>,
        watch: impl Fn(&Act<'_>) + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let endpoint =
            |address: &String| address.parse::<Endpoint>().map_err(|error| error.to_string());
        let bootstrap = brokers.iter().map(endpoint).collect::<Result<_, _>>()?;
        let plan = Plan {
            workers: 1,
            first_connection: tap::Connection(FIRST_CONNECTION),
            ..Plan::to(bootstrap)
        };
        let done: Arc<Mutex<Vec<Done>>> = Arc::default();
        let (kept, clock) = (done.clone(), conduct.clock.clone());
        // Nothing in a conversation is by chance; a rule that asks for it gets it from here.
        let board = Board::watched(Rules::new(Chance::from_seed(0)), move |act| {
            watch(act);
            let over = if act.phase == Phase::Ended { ", over" } else { "" };
            let mut done = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if done.len() < ACTS_MAX {
                done.push((clock.now_ns(), format!("{}{over} {}", act.fired, act.detail)));
            }
        });
        let proxy = proxy::start(plan, Arc::new(board), Some(tap), conduct.clock.clone());
        let proxy = proxy.map_err(|error| error.to_string())?;
        let mut conduct = conduct.clone();
        conduct.tap = Arc::new(NoTap);
        let way_in = Self { proxy, conduct, done };
        way_in.learn_nodes().await?;
        Ok(way_in)
    }

    /// The proxy knows which broker is which from answers that name them.
    async fn learn_nodes(&self) -> Result<(), String> {
        let mut last = "no broker".to_owned();
        for door in self.proxy.bootstrap().split(',') {
            let connection = match Connection::open(&self.conduct, door).await {
                Ok(connection) => connection,
                Err(fate) => {
                    last = fate.to_string();
                    continue;
                }
            };
            match Metadata::ask(&connection, METADATA, Some(&[])).await {
                Ok(_) => return Ok(()),
                Err(fate) => last = fate.to_string(),
            }
        }
        Err(format!("no broker answers through the proxy: {last}"))
    }

    /// Where programs reach the brokers.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.proxy.bootstrap()
    }

    /// Where a broker is reached through the proxy.
    #[must_use]
    pub fn door(&self, broker: &str) -> String {
        let doors = self.proxy.doors();
        let door = doors.iter().find(|door| door.broker().to_string() == broker);
        door.map_or_else(|| broker.to_owned(), |door| door.advertised().to_string())
    }

    /// Its rules.
    #[must_use]
    pub fn rules(&self) -> &Arc<Board> {
        self.proxy.rules()
    }

    /// How often a rule has fired; absent where there is none of that name.
    #[must_use]
    pub fn fired(&self, name: &str) -> Option<u64> {
        let listed = self.rules().list();
        listed.iter().find(|listed| listed.rule.name == name).map(|listed| listed.fired)
    }

    /// Whether anything happened that no network does.
    #[must_use]
    pub fn forged(&self) -> u64 {
        self.rules().fired(Class::Forgery)
    }

    /// What rules did since the last call.
    pub fn done(&self) -> Vec<Done> {
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until everything goes on that rules have held which are gone.
    pub async fn settle(&self) {
        let deadline = Instant::now() + SETTLED_WITHIN;
        while self.rules().lasting() > 0 && Instant::now() < deadline {
            sleep(PAUSE).await;
        }
    }
}
