"""Teachers that need no gradient descent on batches, and the pool that combines teachers of all kinds."""

from mtpkdot.teachers.calibration import Calibration
from mtpkdot.teachers.graph import GraphTeacher
from mtpkdot.teachers.linear import LinearTeacher
from mtpkdot.teachers.member import Member, MemberFactory, Targets
from mtpkdot.teachers.pool import Pool
from mtpkdot.teachers.rows import Rows

__all__ = ["Calibration", "GraphTeacher", "LinearTeacher", "Member", "MemberFactory", "Pool", "Rows", "Targets"]
