# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Vesting of BTT
@license Apache-2.0
@notice Who brings tokens here promises them by stretches of months: each month weighs what its stretch says, and gets
        that part of the whole. Months are those of the calendar, in UTC, so that chain and books release the same units
        on the same day. What is promised cannot be taken back, changed or hastened by anybody, and who benefits cannot
        be replaced.
"""

from ethereum.ercs import IERC20

MONTHS_MAX: constant(uint256) = 2400
WEIGHT_MAX: constant(uint256) = 10000
STRETCHES: constant(uint256) = 32
SECONDS_A_DAY: constant(uint256) = 86400

struct Stretch:
    months: uint256
    # Of each month in it; nothing in a delay.
    weight: uint256

struct Grant:
    beneficiary: address
    units: uint256
    released: uint256
    # The month that it counts from, in months since the year 0, and the day in it.
    start_month: uint256
    start_day: uint256
    # Of all months together.
    weight: uint256
    stretches: DynArray[Stretch, STRETCHES]

event Granted:
    grant: indexed(uint256)
    beneficiary: indexed(address)
    units: uint256

event Released:
    grant: indexed(uint256)
    beneficiary: indexed(address)
    units: uint256

token: public(immutable(IERC20))
grants: HashMap[uint256, Grant]
count: public(uint256)
# What all grants together have not released yet; the contract never holds less.
promised: public(uint256)


@deploy
def __init__(_token: address):
    assert _token.is_contract, "there is no token"
    token = IERC20(_token)


@external
def grant(
    beneficiary: address,
    units: uint256,
    year: uint256,
    month: uint256,
    day: uint256,
    stretches: DynArray[Stretch, STRETCHES],
) -> uint256:
    """
    @notice Promise tokens, which are taken from the caller by allowance
    @param day The day that months end on; a month that does not have it ends on its last
    @return The number of the grant
    """
    assert beneficiary != empty(address) and beneficiary != self, "nobody benefits"
    # Far above any supply, and far below where a product with weights would not fit.
    assert units > 0 and units < 2**128, "units out of range"
    assert year >= 1970 and year < 10000 and month >= 1 and month <= 12 and day >= 1 and day <= 31, "no such start"
    months: uint256 = 0
    weight: uint256 = 0
    for one: Stretch in stretches:
        assert one.months > 0 and one.months <= MONTHS_MAX and one.weight <= WEIGHT_MAX, "stretch out of range"
        months += one.months
        weight += one.months * one.weight
    assert months <= MONTHS_MAX, "too many months"
    assert weight > 0, "nothing would ever be released"
    number: uint256 = self.count
    self.count = number + 1
    self.promised += units
    self.grants[number] = Grant(
        beneficiary=beneficiary,
        units=units,
        released=0,
        start_month=year * 12 + month - 1,
        start_day=day,
        weight=weight,
        stretches=stretches,
    )
    log Granted(grant=number, beneficiary=beneficiary, units=units)
    assert extcall token.transferFrom(msg.sender, self, units), "the tokens did not come"
    return number


@external
def release(number: uint256) -> uint256:
    """
    @notice Pay the beneficiary what is due; anybody may ask for it
    """
    due: uint256 = self._vested(number, block.timestamp) - self.grants[number].released
    assert due > 0, "nothing is due"
    self.grants[number].released += due
    self.promised -= due
    beneficiary: address = self.grants[number].beneficiary
    log Released(grant=number, beneficiary=beneficiary, units=due)
    assert extcall token.transfer(beneficiary, due), "the tokens did not go"
    return due


@external
@view
def promise(number: uint256) -> Grant:
    """
    @notice Return a grant with its stretches
    """
    return self.grants[number]


@external
@view
def vested(number: uint256, timestamp: uint256) -> uint256:
    """
    @notice Say how much of a grant is released at an instant, what was paid before included
    """
    return self._vested(number, timestamp)


@internal
@view
def _vested(number: uint256, timestamp: uint256) -> uint256:
    found: Grant = self.grants[number]
    assert found.weight > 0, "there is no such grant"
    left: uint256 = self._months_over(found.start_month, found.start_day, timestamp)
    passed: uint256 = 0
    for one: Stretch in found.stretches:
        months: uint256 = min(left, one.months)
        passed += months * one.weight
        left -= months
    return found.units * passed // found.weight


@internal
@pure
def _months_over(start_month: uint256, start_day: uint256, timestamp: uint256) -> uint256:
    """
    @dev Years begin in March here, so that the leap day comes last; an era is the 400 years after which the Gregorian
         calendar repeats, 146097 days.
    """
    # From 1 March of the year 0 to 1 January 1970 are 719468 days.
    days: uint256 = timestamp // SECONDS_A_DAY + 719468
    era: uint256 = days // 146097
    of_era: uint256 = days % 146097
    # Leap days of the era so far are taken out before the years are counted.
    year: uint256 = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year: uint256 = of_era - (365 * year + year // 4 - year // 100)
    # Five months from March, or from August, have 153 days.
    month: uint256 = (5 * of_year + 2) // 153
    day: uint256 = of_year - (153 * month + 2) // 5 + 1
    length: uint256 = (153 * (month + 1) + 2) // 5 - (153 * month + 2) // 5
    if month == 11:
        # February, the last month of such a year, has its leap day where the next year is one of 366 days.
        length = 28
        if (year % 4 == 3 and year % 100 != 99) or year == 399:
            length = 29
    # March is the third month of the civil year: 2 when counted from 0.
    now_month: uint256 = (era * 400 + year) * 12 + month + 2
    if day < min(start_day, length):
        now_month -= 1
    if now_month < start_month:
        return 0
    return now_month - start_month
