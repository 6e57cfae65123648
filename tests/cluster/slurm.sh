#!/usr/bin/env bash
# A real SLURM of one node on this machine, with accounting: no systemd, no cgroups, everything on 127.0.0.1.
# Needs root and Debian 12 or newer; installs what is missing.
#
#   bash tests/cluster/slurm.sh up       starts a new, empty one; does nothing where it runs already
#   bash tests/cluster/slurm.sh down     cancels its jobs, ends its daemons by their pid files, removes its folder
#
# OCWM_SLURM (default /tmp/ocwm-slurm) is its folder, OCWM_SLURM_PORT (17817) the first of four TCP ports.
set -euo pipefail
DIR=${OCWM_SLURM:-/tmp/ocwm-slurm}
PORT=${OCWM_SLURM_PORT:-17817}
HOST=$(uname -n); HOST=${HOST%%.*}
DAEMONS="munged mariadbd slurmdbd slurmctld slurmd"
LINK=/etc/slurm/slurm.conf # clients and jobs find the configuration there, whatever their environment
export PATH=$PATH:/usr/sbin:/sbin OCWM_SLURM=$DIR SLURM_CONF=$DIR/etc/slurm.conf

die() { echo "slurm.sh: $*" >&2; exit 1; }

# A pid counts only where the process was started by this script: pids are given again.
pid_of() {
  local pid
  pid=$(cat "$DIR/run/$1.pid" 2>/dev/null) && grep -qzxF "OCWM_SLURM=$DIR" "/proc/$pid/environ" 2>/dev/null && echo "$pid"
}
node_state() { timeout 10 sinfo --noheader --nodes="$HOST" --format=%t 2>/dev/null | head -1; }
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
as() { local user=$1; shift; setpriv --reuid="$user" --regid="$user" --clear-groups -- "$@"; }

is_up() {
  for name in $DAEMONS; do pid_of "$name" >/dev/null || return 1; done
  case "$(node_state)" in idle | mix | alloc | comp) ;; *) return 1 ;; esac
}

down() {
  if pid_of slurmctld >/dev/null && pid_of slurmd >/dev/null; then
    ids() { timeout 10 squeue --noheader --format=%A 2>/dev/null | sort -u; }
    [ -z "$(ids)" ] || timeout 10 scancel $(ids) 2>/dev/null || true
    for _ in $(seq 100); do [ -n "$(ids)" ] || break; sleep 0.1; done
  fi
  for name in slurmd slurmctld slurmdbd mariadbd munged; do
    pid=$(pid_of "$name") || continue
    kill "$pid"
    for _ in $(seq 200); do pid_of "$name" >/dev/null || break; sleep 0.1; done
    ! pid_of "$name" >/dev/null || kill -KILL "$pid"
  done
  [ "$(readlink $LINK 2>/dev/null)" != "$SLURM_CONF" ] || rm -f $LINK
  [ ! -e "$DIR/.ours" ] || rm -rf "$DIR"
}

install() {
  missing=
  for command in slurmctld slurmd slurmdbd sbatch sacct munged mariadbd; do command -v $command >/dev/null || missing=yes; done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || die "SLURM is not installed, and there is no apt-get"
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # 1: packages must not start their services
  apt-get -qq -o Acquire::Retries=3 update || true
  apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends \
    munge slurmctld slurmd slurmdbd slurm-client mariadb-server-core >"$DIR/log/apt.log" 2>&1 ||
    die "apt-get can't install SLURM: $(tail -1 "$DIR/log/apt.log")"
}

configure() {
  dd if=/dev/urandom of="$DIR/munge/key" bs=128 count=1 status=none
  chmod 600 "$DIR/munge/key"
  chown -R munge:munge "$DIR/munge"
  chown slurm:slurm "$DIR"/{state,db,log,run}
  as slurm test -x "$DIR/state" || die "user slurm can't enter $DIR: choose another OCWM_SLURM"
  for offset in 0 1 2 3; do ! listening $((PORT + offset)) || die "port $((PORT + offset)) is taken: set OCWM_SLURM_PORT"; done
  memory=$(slurmd -C | sed -n 's/.* RealMemory=\([0-9]*\).*/\1/p')
  cat >"$DIR/etc/slurm.conf" <<CONF
ClusterName=ocwm
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=slurm
AuthType=auth/munge
# A requeued job waits cred_expire + 1 s before it starts again; the default is two minutes.
AuthInfo=socket=$DIR/munge/socket,cred_expire=5
SlurmctldPort=$PORT
SlurmdPort=$((PORT + 1))
SlurmctldPidFile=$DIR/run/slurmctld.own
SlurmdPidFile=$DIR/run/slurmd.own
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd.log
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool
# Ids grow with time: a new cluster never gives those of an older one, whose logs may still be there.
FirstJobId=$((($(date +%s) % 6000000) * 10 + 1))
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=3600
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=512
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT + 2))
AccountingStoragePass=$DIR/munge/socket
JobAcctGatherType=jobacct_gather/linux
# The node says that it has more CPUs than it may have, so that jobs run side by side anywhere.
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=8 RealMemory=$memory State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE
CONF
  cat >"$DIR/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$DIR/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((PORT + 2))
SlurmUser=slurm
PidFile=$DIR/run/slurmdbd.own
LogFile=$DIR/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 3))
StorageUser=slurm
StoragePass=slurm
CONF
  chown slurm "$DIR/etc/slurmdbd.conf"
  chmod 600 "$DIR/etc/slurmdbd.conf"
  cat >"$DIR/etc/my.cnf" <<CONF
[mariadbd]
datadir=$DIR/db
socket=$DIR/db/socket
log-error=$DIR/log/mariadbd.log
init-file=$DIR/etc/init.sql
bind-address=127.0.0.1
port=$((PORT + 3))
skip-name-resolve
performance_schema=OFF
innodb_buffer_pool_size=64M
loose_innodb_buffer_pool_size_max=64M
innodb_log_file_size=16M
innodb_lock_wait_timeout=900
innodb_flush_log_at_trx_commit=0
CONF
  cat >"$DIR/etc/init.sql" <<'CONF'
CREATE DATABASE IF NOT EXISTS slurm_acct_db;
CREATE OR REPLACE USER 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';
CONF
  mkdir -p /etc/slurm
  [ -e $LINK ] || ln -sfn "$SLURM_CONF" $LINK
}

# start NAME USER COMMAND...: detached, its pid in run/NAME.pid
start() {
  local name=$1 user=$2
  shift 2
  setsid setpriv --reuid="$user" --regid="$user" --clear-groups -- "$@" </dev/null >>"$DIR/log/$name.out" 2>&1 9>&- &
  echo $! >"$DIR/run/$name.pid"
}

# wait_for NAME TEST...: until the test holds; fails where the daemon dies
wait_for() {
  local name=$1 end=$((SECONDS + 60))
  shift
  until "$@" 2>/dev/null; do
    kill -0 "$(cat "$DIR/run/$name.pid")" 2>/dev/null || die "$name has ended: $(tail -n 2 "$DIR/log/$name".* | xargs)"
    [ $SECONDS -lt $end ] || die "$name is not ready in time: $(tail -n 2 "$DIR/log/$name".* | xargs)"
    sleep 0.1
  done
}

up() {
  [ "$(id -u)" = 0 ] || die "only root can start SLURM"
  [ ! -e "$DIR" ] || [ -e "$DIR/.ours" ] || die "$DIR exists, and it was not made by this script"
  exec 9>"/tmp/.ocwm-slurm.lock"
  flock -w 300 9 || die "another one is being started"
  ! is_up || return 0
  down
  mkdir -p "$DIR"/{etc,log,run,state,spool,munge,db}
  touch "$DIR/.ours"
  chmod 755 "$DIR" "$DIR"/*
  install
  configure
  trap '[ $? = 0 ] || down' EXIT # nothing stays half started
  start munged munge munged -F --socket="$DIR/munge/socket" --key-file="$DIR/munge/key" \
    --log-file="$DIR/munge/munged.log" --pid-file="$DIR/munge/pid" --seed-file="$DIR/munge/seed" --num-threads=4
  {
    printf '%s\n' "CREATE DATABASE mysql;" "USE mysql;" "SET @auth_root_socket=NULL;"
    cat /usr/share/mysql/mysql_system_tables.sql /usr/share/mysql/mysql_system_tables_data.sql
  } | as slurm mariadbd --defaults-file="$DIR/etc/my.cnf" --init-file= --bootstrap >>"$DIR/log/mariadbd.out" 2>&1 9>&-
  start mariadbd slurm mariadbd --defaults-file="$DIR/etc/my.cnf"
  wait_for munged munge -S "$DIR/munge/socket" -n -o /dev/null
  wait_for mariadbd listening $((PORT + 3))
  start slurmdbd slurm slurmdbd -D
  wait_for slurmdbd listening $((PORT + 2))
  start slurmctld slurm slurmctld -D
  start slurmd root slurmd -D
  wait_for slurmctld ready
  wait_for slurmctld known
}

ready() { [ "$(node_state)" = idle ]; }
known() { sacctmgr --noheader --parsable2 show cluster format=cluster,controlport | grep -q "ocwm|$PORT"; }

case "${1:-}" in
up)
  up
  echo "$(sinfo --version) is up on $HOST; bash $0 down stops it"
  ;;
down) down ;;
*) die "say up or down" ;;
esac
