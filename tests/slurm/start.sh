#!/usr/bin/env bash
# Installs Slurm where it is missing and starts it on this machine alone, without systemd: munged, slurmctld, slurmd.
# For the tests marked `slurm`, which skip where it does not run. Ends with 0 only if a job could be run.
set -euo pipefail
command -v slurmctld >/dev/null && command -v munged >/dev/null || {
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends slurm-wlm munge
} >/dev/null
timeout 10 sinfo -h >/dev/null 2>&1 && { echo "Slurm runs"; exit 0; }

state=/var/lib/mtpkdot-slurm
mkdir -p "$state" /run/munge /etc/slurm /var/log/munge /var/lib/munge
chown munge: /run/munge /var/log/munge /var/lib/munge
pgrep -x munged >/dev/null || { rm -f /run/munge/munge.socket.2; runuser -u munge -- /usr/sbin/munged --force; }

cpus=$(getconf _NPROCESSORS_ONLN) # nproc would tell OMP_NUM_THREADS
cat > /etc/slurm/slurm.conf <<CONF
ClusterName=mtpkdot
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/slurmd
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides # two tasks on a machine of one processor as well
MpiDefault=none
ReturnToService=2
JobRequeue=1
# A requeued job starts once its credentials have expired, which takes two minutes where this is not set.
AuthInfo=cred_expire=5
SchedulerParameters=bf_interval=2,sched_interval=2
MinJobAge=300
KillWait=60
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$((cpus > 2 ? cpus : 2)) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
CONF
mkdir -p "$state/ctld" "$state/slurmd"
pgrep -x slurmctld >/dev/null || slurmctld
pgrep -x slurmd >/dev/null || slurmd
for _ in $(seq 30); do
  timeout 5 srun -n1 true >/dev/null 2>&1 && { echo "Slurm runs"; exit 0; }
  sleep 1
done
echo "Slurm does not start; see $state/*.log" >&2
exit 1
