"""The tables that loggers export, each read as what was recorded: axes, units, time and sign."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from xsearch.errors import NotMedia, Unreadable
from xsearch.media import count, identify, walk
from xsearch.types import MediaFile, Modality, Sample

G, DEG = 9.80665, np.pi / 180
RATE = 50.0
T = np.arange(200) / RATE
MOTION = np.stack([(axis + 1) * np.sin((axis + 1) * T / 2) + axis for axis in range(6)])  # m/s^2, rad/s
START = datetime(2021, 3, 4, 10, 11, 12, 345_000, UTC)
EPOCH_S = START.timestamp()


def rows(*columns: object, joint: str = ",") -> str:
    """Rows of columns: arrays, lists of text, or the same text in each row."""
    fields = [[column] * len(T) if isinstance(column, str) else column for column in columns]
    texts = [[value if isinstance(value, str) else f"{value:.9f}" for value in each] for each in fields]
    return "".join(joint.join(row) + "\n" for row in zip(*texts, strict=True))


def whole(values: np.ndarray) -> list[str]:
    return [str(round(value)) for value in values]


def moments(pattern: str, *, cut: int = 0) -> list[str]:
    """Times of the rows as text; `cut` digits of the microseconds are left out."""
    texts = [(START + timedelta(seconds=t)).strftime(pattern) for t in T]
    return [text[:-cut] if cut else text for text in texts]


A, W = MOTION[:3], MOTION[3:]
EXPORTS = {
    "Ego4D": (
        "component_idx,component_timestamp_ms,canonical_timestamp_ms,gyro_x,gyro_y,gyro_z,accl_x,accl_y,accl_z\n"
        + rows("0", whole(T % 2 * 1000), whole(T * 1000), *W, *A)
    ),
    "EuRoC, TUM-VI": (
        "#timestamp [ns],w_RS_S_x [rad s^-1],w_RS_S_y [rad s^-1],w_RS_S_z [rad s^-1],"
        "a_RS_S_x [m s^-2],a_RS_S_y [m s^-2],a_RS_S_z [m s^-2]\n"
        + rows(whole(1403636579758555392 + T * 1e9), *W, *A)
    ),
    "Stray Scanner": "timestamp, a_x, a_y, a_z, alpha_x, alpha_y, alpha_z\n" + rows(1234.5 + T, *A, *W),
    "Kalibr": "timestamp,omega_x,omega_y,omega_z,alpha_x,alpha_y,alpha_z\n"
    + rows(whole((EPOCH_S + T) * 1e9), *W, *A),
    "SensorLog": (
        "loggingTime(txt),loggingSample(N),accelerometerTimestamp_sinceReboot(s),"
        + ",".join(f"accelerometerAcceleration{axis}(G)" for axis in "XYZ")
        + ",gyroTimestamp_sinceReboot(s),"
        + ",".join(f"gyroRotation{axis}(rad/s)" for axis in "XYZ")
        + ",motionUserAccelerationX(G),motionUserAccelerationY(G),motionUserAccelerationZ(G)\n"
        + rows("2021-03-04 10:11:12.345 +0100", "0", 5000 + T, *(A / G), 5000 + T, *W, "0", "0", "0")
    ),
    "SensorLog of a watch": (
        "loggingTime(txt),motionTimestamp_sinceReboot(s),"
        + ",".join(f"motionUserAcceleration{axis}(G)" for axis in "XYZ")
        + ","
        + ",".join(f"motionGravity{axis}(G)" for axis in "XYZ")
        + ","
        + ",".join(f"motionRotationRate{axis}(rad/s)" for axis in "XYZ")
        + "\n"
        + rows("2021-03-04 10:11:12.345 +0100", 5000 + T, *(A / G - 0.25), "0.25", "0.25", "0.25", *W)
    ),
    "MotionSense": (
        "sample_rate_hz,attitude.roll,gravity.x,gravity.y,gravity.z,rotationRate.x,rotationRate.y,rotationRate.z,"
        "userAcceleration.x,userAcceleration.y,userAcceleration.z\n"
        + rows("50", "0", "0.5", "0.5", "0.5", *W, *(A / G - 0.5))
    ),
    "Movella DOT": (
        "sep=,\nDeviceTag:,DOT 1\nFirmwareVersion:,3.0.0\nOutputRate:,50Hz\nStartTime: ,2021-03-04\n"
        "© Movella Technologies B. V. 2005-2025\n\n"
        "PacketCounter,SampleTimeFine,Euler_X,Euler_Y,Euler_Z,FreeAcc_X,FreeAcc_Y,FreeAcc_Z,"
        "Acc_X,Acc_Y,Acc_Z,Gyr_X,Gyr_Y,Gyr_Z,Status\n"
        + rows(whole(T * RATE), whole((2**32 - 1e6 + T * 1e6) % 2**32), *"000000", *A, *(W / DEG), "0", "")
    ),
    "MTw": (
        "// Start Time: Unknown\n// Update Rate: 50.0Hz\n// Filter Profile: human (46.1)\n"
        "PacketCounter\tSampleTimeFine\tYear\tAcc_X\tAcc_Y\tAcc_Z\tGyr_X\tGyr_Y\tGyr_Z\tMag_X\tMag_Y\tMag_Z\n"
        + rows([f"{(65500 + n) % 65536:05}" for n in range(len(T))], "", "", *A, *W, *"000", joint="\t")
    ),
    "MTi": (
        "// Update Rate: 50.0Hz\nSampleTimeFine\tAcc_X\tAcc_Y\tAcc_Z\tGyr_X\tGyr_Y\tGyr_Z\n"
        + rows(whole(T * 1e4), *A, *W, joint="\t")
    ),
    "phyphox": (
        '"Time (s)","Acceleration x (m/s^2)","Acceleration y (m/s^2)","Acceleration z (m/s^2)",'
        '"Absolute acceleration (m/s^2)","Gyroscope x (rad/s)","Gyroscope y (rad/s)","Gyroscope z (rad/s)"\n'
        + rows(T, *A, "9.81", *W)
    ),
    "phyphox, decimal comma": (
        "Time (s);Linear Acceleration x (m/s^2);Linear Acceleration y (m/s^2);Linear Acceleration z (m/s^2);"
        "Gyroscope x (rad/s);Gyroscope y (rad/s);Gyroscope z (rad/s)\n"
        + rows(T, *A, *W, joint=";").replace(".", ",")
    ),
    "WitMotion": (
        "StartTime: 2021-03-04 10:11:12.345\n"
        "address\tTime(s)\tax(g)\tay(g)\taz(g)\twx(deg/s)\twy(deg/s)\twz(deg/s)\tAngleX(deg)\tT(°)\n"
        + rows("0x50", moments("%H:%M:%S.%f", cut=3), *(A / G), *(W / DEG), "1", "2", joint="\t")
    ),
    "WitMotion, newer": (
        "time,DeviceName,Chip Time(),AccX(g),AccY(g),AccZ(g),AsX(°/s),AsY(°/s),AsZ(°/s),AngleX(°)\n"
        + rows("10:11:12.345", "WT901", moments("%Y-%m-%d %H:%M:%S:%f", cut=3), *(A / G), *(W / DEG), "0")
    ),
    "WitMotion, Bluetooth": (
        "Time,Device name,Chip Time(),Acceleration X(g),Acceleration Y(g),Acceleration Z(g),"
        "Angular velocity X(°/s),Angular velocity Y(°/s),Angular velocity Z(°/s)\n"
        + rows(moments("%Y-%m-%dT%H:%M:%S.%f", cut=3), "WT", "null", *(A / G), *(W / DEG))
    ),
    "WitMotion, Chinese": (
        "时间,设备名称,加速度X(g),加速度Y(g),加速度Z(g),角速度X(°/s),角速度Y(°/s),角速度Z(°/s)\n"
        + rows(moments("%Y-%m-%d %H:%M:%S.%f", cut=3), "WT", *(A / G), *(W / DEG))
    ),
    "Physics Toolbox": "time,gFx,gFy,gFz,ax,ay,az,wx,wy,wz\n" + rows(T, *(A / G), *"000", *W),
    "Physics Toolbox, clock": "time,gFx,gFy,gFz,wx,wy,wz,\n" + rows(moments("%H:%M:%S:%f"), *(A / G), *W, ""),
    "Shimmer": (
        '"sep=\t"\nShimmer_8665_Timestamp_Unix_CAL\t'
        + "\t".join(f"Shimmer_8665_Accel_LN_{axis}_CAL" for axis in "XYZ")
        + "\t"
        + "\t".join(f"Shimmer_8665_Accel_WR_{axis}_CAL" for axis in "XYZ")
        + "\t"
        + "\t".join(f"Shimmer_8665_Gyro_{axis}_CAL" for axis in "XYZ")
        + "\t\nms\t"
        + "m/(s^2)\t" * 6
        + "deg/s\t" * 3
        + "\n"
        + rows((EPOCH_S + T) * 1000, *A, *"000", *(W / DEG), "", joint="\t")
    ),
    "AndroSensor": (
        "ACCELEROMETER X (m/s²);ACCELEROMETER Y (m/s²);ACCELEROMETER Z (m/s²);"
        "GRAVITY X (m/s²);GRAVITY Y (m/s²);GRAVITY Z (m/s²);"
        "LINEAR ACCELERATION X (m/s²);LINEAR ACCELERATION Y (m/s²);LINEAR ACCELERATION Z (m/s²);"
        "GYROSCOPE X (rad/s);GYROSCOPE Y (rad/s);GYROSCOPE Z (rad/s);"
        "Time since start in ms ;YYYY-MO-DD HH-MI-SS_SSS\n"
        + rows(*A, *"111", *"222", *W, whole(T * 1000), "2021-03-04 10:11:12:345", joint=";")
    ),
    "Axivity": (
        "Time,Accel-X (g),Accel-Y (g),Accel-Z (g),Gyro-X (d/s),Gyro-Y (d/s),Gyro-Z (d/s)\n"
        + rows(moments("%Y-%m-%d %H:%M:%S.%f", cut=3), *(A / G), *(W / DEG))
    ),
    "ActiGraph": (
        "------------ Data Table File Created By ActiGraph Link -----------\nSerial Number: MOS2D\n"
        "Timestamp,Accelerometer X,Accelerometer Y,Accelerometer Z,Gyroscope X,Gyroscope Y,Gyroscope Z\n"
        + rows(moments("%Y-%m-%dT%H:%M:%S.%f0"), *(A / G), *(W / DEG))
    ),
    "ROS": (
        "%time,field.header.seq,field.header.stamp,field.angular_velocity.x,field.angular_velocity.y,"
        "field.angular_velocity.z,field.linear_acceleration.x,field.linear_acceleration.y,field.linear_acceleration.z\n"
        + rows(whole((EPOCH_S + T) * 1e9), "1", "0", *W, *A)
    ),
    "PX4": (
        "timestamp,gyro_rad[0],gyro_rad[1],gyro_rad[2],gyro_integral_dt,"
        "accelerometer_m_s2[0],accelerometer_m_s2[1],accelerometer_m_s2[2]\n"
        + rows(whole(3e8 + T * 1e6), *W, "4000", *A)
    ),
    "ArduPilot": "TimeUS,GyrX,GyrY,GyrZ,AccX,AccY,AccZ,EG,EA\n" + rows(whole(T * 1e6), *W, *A, "0", "0"),
    "PAMAP2": (
        "timestamp,activityID,handAcc16_1,handAcc16_2,handAcc16_3,handAcc6_1,handAcc6_2,handAcc6_3,"
        "handGyro1,handGyro2,handGyro3,chestAcc16_1,chestAcc16_2,chestAcc16_3,chestGyro1,chestGyro2,chestGyro3\n"
        + rows(8.38 + T, "1", *A, *"000", *W, *"000000")
    ),
    "4Seasons, spaces": "# timestamp wx wy wz ax ay az\n"
    + rows(whole((EPOCH_S + T) * 1e9), *W, *A, joint="  "),
    "Betaflight": (
        "loopIteration, time (us), gyroADC[0] (deg/s), gyroADC[1] (deg/s), gyroADC[2] (deg/s), "
        "accSmooth[0] (g), accSmooth[1] (g), accSmooth[2] (g)\n"
        + rows("1", whole(T * 1e6), *(W / DEG), *(A / G), joint=", ")
    ),
    "OpenLog Artemis": (
        "rtcDate,rtcTime,aX,aY,aZ,gX,gY,gZ,mX,mY,mZ,imu_degC,output_Hz,\n"
        + rows(
            moments("%m/%d/%Y"),
            moments("%H:%M:%S.%f", cut=4),
            *(A / G * 1000),
            *(W / DEG),
            *"000",
            "20",
            "50",
            "",
        )
    ),
    "MAVLink": (
        "time_usec,xacc,yacc,zacc,xgyro,ygyro,zgyro,xmag,ymag,zmag\n" + rows(whole(T * 1e6), *A, *W, *"000")
    ),
    "a long format": "epoch_ms,elapsed_ms,sensor,x,y,z\n"
    + rows(whole((EPOCH_S + T) * 1000), whole(T * 1000), "accel_g", *(A / G))
    + rows(whole((EPOCH_S + T) * 1000), whole(T * 1000), "gyro_dps", *(W / DEG))
    + rows(whole((EPOCH_S + T) * 1000), whole(T * 1000), "magnetometer", *"123"),
    "Android's sensors": "timestamp,sensor_type,accuracy,value_0,value_1,value_2\n"
    + "".join(
        f"{10**13 + n * 20_000_000},{kind},3," + ",".join(f"{value:.9f}" for value in values) + "\n"
        for n in range(len(T))
        for kind, values in ((1, A[:, n]), (10, A[:, n] * 0), (4, W[:, n]))
    ),
    "dates and times": "Date;Time;Acc X [mg];Acc Y [mg];Acc Z [mg];Gyro X [°/s];Gyro Y [°/s];Gyro Z [°/s]\n"
    + rows("04.03.2021", moments("%H:%M:%S,%f"), *(A / G * 1000), *(W / DEG), joint=";"),
    "Excel's quotes": '"time","ax","ay","az","gx","gy","gz"\n'
    + rows(*([f'"{value:.9f}"'.replace(".", ",") for value in each] for each in (T, *A, *W))),
    "R's index": "time ax ay az gx gy gz\n" + rows([f'"{n}"' for n in range(len(T))], T, *A, *W, joint=" "),
    "pandas' index": ",t,ax,ay,az,gx,gy,gz\n" + rows(whole(T * RATE), T, *A, *W),
}


def check(sample: Sample, *, atol: float = 2e-5) -> None:
    """A sample is the motion, the last rows aside."""
    assert sample.rate_hz == pytest.approx(RATE, rel=1e-4)
    np.testing.assert_allclose(sample.data[:, :198], MOTION[:, :198], atol=atol)


@pytest.mark.parametrize("source", EXPORTS)
@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_an_export_is_read_as_recorded(tmp_path: Path, samples, source: str, suffix: str) -> None:
    path = tmp_path / f"recording{suffix}"
    path.write_text(EXPORTS[source], encoding="utf-8")
    file = identify(path)
    assert (file.modality, file.companion) == (Modality.IMU, None)
    [sample] = samples(path)
    check(sample)


def write(path: Path, *content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(content), encoding="utf-8")
    return path


PAIRS = {
    "GoPro": (
        ("GX010001_HERO8 Black-ACCL.csv", "cts,date,Accelerometer (z) [m/s2],(x),(y),temperature [°C]\n"),
        ("GX010001_HERO8 Black-GYRO.csv", "cts,date,Gyroscope (z) [rad/s],(x),(y),temperature [°C]\n"),
        lambda xyz: rows(whole(T * 1000), "2021-03-04T10:11:12.345Z", xyz[2], xyz[0], xyz[1], "30"),
        (1, 1),
    ),
    "GoPro HERO5": (
        ("a-ACCL.csv", '"cts","date","Accelerometer (up/down) [m/s2]","(right/left)","(forward/back)"\n'),
        ("a-GYRO.csv", '"cts","date","Gyroscope (up/down) [rad/s]","(right/left)","(forward/back)"\n'),
        lambda xyz: rows(whole(T * 1000), "2021-03-04T10:11:12.345Z", xyz[2], xyz[0], xyz[1]),
        (1, 1),
    ),
    "MetaWear": (
        (
            "A-bench_MetaWear_2019-01-11T16.10.08.270_C42_Accelerometer_12.500Hz_1.4.4.csv",
            "epoc (ms),timestamp (+0200),elapsed (s),x-axis (g),y-axis (g),z-axis (g)\n",
        ),
        (
            "A-bench_MetaWear_2019-01-11T16.10.08.270_C42_Gyroscope_25.000Hz_1.4.4.csv",
            "epoc (ms),timestamp (+0200),elapsed (s),x-axis (deg/s),y-axis (deg/s),z-axis (deg/s)\n",
        ),
        lambda xyz: rows(whole((EPOCH_S + T) * 1000), moments("%Y-%m-%dT%H.%M.%S.%f", cut=3), T, *xyz),
        (1 / G, 1 / DEG),
    ),
    "phyphox": (
        ("Accelerometer.csv", '"Time (s)","X (m/s^2)","Y (m/s^2)","Z (m/s^2)"\n'),
        ("Gyroscope.csv", '"Time (s)","X (rad/s)","Y (rad/s)","Z (rad/s)"\n'),
        lambda xyz: rows(T, *xyz),
        (1, 1),
    ),
    "Sensor Logger": (
        ("TotalAcceleration.csv", "time,seconds_elapsed,z,y,x\n"),
        ("Gyroscope.csv", "time,seconds_elapsed,z,y,x\n"),
        lambda xyz: rows(whole((EPOCH_S + T) * 1e9), T, *xyz[::-1]),
        (1, 1),
    ),
    "HHAR": (
        ("Phones_accelerometer.csv", "Index,Arrival_Time,Creation_Time,x,y,z,User,Model,Device,gt\n"),
        ("Phones_gyroscope.csv", "Index,Arrival_Time,Creation_Time,x,y,z,User,Model,Device,gt\n"),
        lambda xyz: rows("0", whole((EPOCH_S + T) * 1e3), whole(T * 1e9), *xyz, "a", "n4", "n4_1", "walk"),
        (1, 1),
    ),
    "by number": (
        ("acc03.csv", "Timestamp,X_value,Y_value,Z_value\n"),
        ("gyr03.csv", "Timestamp,X_value,Y_value,Z_value\n"),
        lambda xyz: rows(T, *xyz),
        (1, 1),
    ),
    "by place": (
        ("acc_walking_chest.csv", "id,attr_time,attr_x,attr_y,attr_z\n".replace("attr_", "")),
        ("Gyroscope_walking_chest.csv", "id,time,x,y,z\n"),
        lambda xyz: rows("1", whole(T * 1000), *xyz),
        (1, 1),
    ),
}


@pytest.mark.parametrize("source", PAIRS)
def test_a_pair_of_exports_is_one_recording_of_two_files(tmp_path: Path, samples, source: str) -> None:
    (accel, accel_names), (gyro, gyro_names), body, (per_ms2, per_rad) = PAIRS[source]
    write(tmp_path / accel, accel_names, body(A * per_ms2))
    write(tmp_path / gyro, gyro_names, body(W * per_rad))
    [file] = walk([tmp_path])
    assert isinstance(file, MediaFile)
    assert (file.path, file.companion, count(file)) == (tmp_path / accel, tmp_path / gyro, 2)
    assert identify(tmp_path / gyro) == file
    [sample] = samples(tmp_path / gyro)
    check(sample)


def test_of_several_accelerometers_the_one_with_gravity_is_read(tmp_path: Path) -> None:
    names = (
        "TotalAcceleration",
        "Accelerometer",
        "AccelerometerUncalibrated",
        "Gyroscope",
        "GyroscopeUncalibrated",
    )
    for name in (*names, "Gravity", "Magnetometer", "Orientation"):
        write(tmp_path / f"{name}.csv", "time,seconds_elapsed,z,y,x\n", rows(whole(T * 1e9), T, *A))
    found = list(walk([tmp_path]))
    [file] = [each for each in found if isinstance(each, MediaFile)]
    assert (file.path.name, file.companion) == ("TotalAcceleration.csv", tmp_path / "Gyroscope.csv")
    reasons = {Path(skip.path).stem: skip.reason for skip in found if not isinstance(skip, MediaFile)}
    assert reasons["Accelerometer"] == "TotalAcceleration.csv is read with Gyroscope.csv instead"
    assert reasons["GyroscopeUncalibrated"] == "Gyroscope.csv is read with TotalAcceleration.csv instead"
    assert sorted(reasons) == sorted(
        {*names, "Gravity", "Magnetometer", "Orientation"} - {file.path.stem, "Gyroscope"}
    )


@pytest.mark.parametrize(
    ("name", "header", "missing"),
    [
        (
            "a.csv",
            "time,accel_x,accel_y,accel_z",
            "no gyroscope columns; only accel columns in time, accel_x",
        ),
        ("a.csv", "time,gyro_x,gyro_y,gyro_z,accel_x", "no accelerometer columns; .* add accel_x, accel_y"),
        ("Accelerometer.csv", "time,seconds_elapsed,z,y,x", "no gyroscope columns; .* add gyro_x"),
        (
            "Raw Data.csv",
            '"Time (s)","Acceleration x (m/s^2)","y","Acceleration z (m/s^2)","Acceleration y (m/s^2)"',
            "gyro",
        ),
        ("a.txt", "Time(s)\tax(g)\tay(g)\taz(g)", "no gyroscope columns"),
    ],
)
def test_a_refusal_names_what_is_missing(tmp_path: Path, name: str, header: str, missing: str) -> None:
    path = write(
        tmp_path / name, header, "\n", "1,2,3,4,5\n2,3,4,5,6\n".replace(",", "\t" if "\t" in header else ",")
    )
    with pytest.raises(Unreadable, match=missing):
        identify(path)


@pytest.mark.parametrize(
    "content",
    [
        "time,x,y,z\n1,2,3,4\n",
        "a,g,t,c\n1,2,3,4\n",
        "w0,w1,w2,a0,a1,a2,time\n1,2,3,4,5,6,7\n",
        "name,price\nbread,2\n",
        "tBodyAcc-mean()-X,tBodyAcc-mean()-Y,tBodyAcc-mean()-Z\n1,2,3\n",
        "time,mean_acc_x,mean_acc_y,mean_acc_z,mean_gyro_x,mean_gyro_y,mean_gyro_z\n1,2,3,4,5,6,7\n",
        "#timestamp,b_w_RS_S_x [rad s^-1],b_w_RS_S_y [rad s^-1],b_w_RS_S_z [rad s^-1],"
        "b_a_RS_S_x [m s^-2],b_a_RS_S_y [m s^-2],b_a_RS_S_z [m s^-2]\n1,2,3,4,5,6,7\n",  # EuRoC's biases
        "1583488736.0, 1583488736.0, 1583488736.0\n32.0, 32.0, 32.0\n-20, 0, 60\n",  # Empatica: no header
        "sensor,time,x,y,z\nwind,1,2,3,4\n",
        "latitude,longitude,time,magX,magY,magZ\n1,2,3,4,5,6\n",
        'caption,text\n"an accident, x, y, z",two\n',
    ],
)
def test_other_tables_are_not_media_and_texts_stay_texts(tmp_path: Path, content: str) -> None:
    with pytest.raises(NotMedia):
        identify(write(tmp_path / "table.csv", content))
    assert identify(write(tmp_path / "note.txt", content)).modality is Modality.TEXT


def test_clocks_run_over_midnight_and_between_ticks(tmp_path: Path, samples) -> None:
    before = datetime(2021, 3, 4, 23, 59, 58)
    names = "time,ax,ay,az,gx,gy,gz\n"
    for pattern in ("%H:%M:%S.%f", "%I:%M:%S.%f %p", "%H:%M:%S"):
        texts = [(before + timedelta(seconds=t + 0.25)).strftime(pattern) for t in T]
        [sample] = samples(write(tmp_path / "a.csv", names, rows(texts, *A, *W)))
        assert sample.data.shape[1] == 200
        check(sample)


@pytest.mark.parametrize(
    "texts",
    [
        [f"{738000.5 + t / 86400:.11f}" for t in T],  # days of MATLAB
        whole((EPOCH_S + 11_644_473_600 + T) * 1e7),  # FILETIME
        [str(621_355_968_000_000_000 + round((EPOCH_S + t) * 1e7)) for t in T],  # .NET
        moments("%Y%m%dT%H%M%S.%f"),
        moments("%d/%m/%y %H:%M:%S.%f"),
        [f"{int(t // 60) % 60:02}:{t % 60:06.3f}" for t in T + 3598],  # Excel, over the hour
    ],
    ids=["datenum", "FILETIME", ".NET", "compact", "two digits of the year", "minutes"],
)
def test_clocks_of_programs(tmp_path: Path, samples, texts: list[str]) -> None:
    [sample] = samples(write(tmp_path / "a.csv", "time,ax,ay,az,gx,gy,gz\n", rows(texts, *A, *W)))
    assert sample.rate_hz == pytest.approx(RATE, rel=1e-4)
    np.testing.assert_allclose(sample.data[:, :198], MOTION[:, :198], atol=5e-4)  # 10 us


NAMES, BODY = "time,ax,ay,az,gx,gy,gz\n", rows(T, *A, *W)
DEGREES = "time,ax,ay,az,gx (°/s),gy (°/s),gz (°/s)\n" + rows(T, *A, *(W / DEG))
STATES = {
    "cp1252.csv": DEGREES.encode("cp1252"),
    "UTF-16 without a mark.csv": DEGREES.encode("utf-16-le"),
    "UTF-8 and zeros.csv": DEGREES.encode() + bytes(99),
    "joined.csv": (NAMES + BODY[: len(BODY) // 2].rpartition("\n")[0] + "\n" + NAMES + BODY).encode(),
    "at 50Hz.csv": (NAMES.removeprefix("time,") + rows(*A, *W)).encode(),
    "units.csv": (NAMES + "[s],[g],[g],[g],rad/s,rad/s,rad/s\n" + rows(T, *(A / G), *W)).encode(),
    "missing.csv": (NAMES + "NA,NA,NA,NA,NA,NA,NA\n" + BODY + "None,-,?,NAN,,nan,null\n").encode(),
    "epoch.csv": (NAMES + rows(whole((EPOCH_S + T) * 1e6), *A, *W)).encode(),
    "carriage.csv": (NAMES + BODY).replace("\n", "\r").encode(),
}


@pytest.mark.parametrize("name", STATES)
def test_a_table_in_any_state_is_read(tmp_path: Path, samples, name: str) -> None:
    (tmp_path / name).write_bytes(STATES[name])
    [sample] = samples(tmp_path / name)
    check(sample, atol=5e-5)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("time,Device", "rows of 2 devices in column Device; write a table for each"),
        ("when,Device", "neither a time column nor rate_hz"),
    ],
)
def test_rows_of_several_devices_are_not_mixed(tmp_path: Path, samples, column: str, reason: str) -> None:
    devices = ["left", "right"] * 100 if column.startswith("time") else "left"
    path = write(tmp_path / "a.csv", column, ",ax,ay,az,gx,gy,gz\n", rows(T, devices, *A, *W))
    with pytest.raises(Unreadable, match=reason):
        samples(path)


def test_a_long_table_without_one_sensor_says_so(tmp_path: Path, samples) -> None:
    path = write(tmp_path / "a.csv", "sensor,timestamp,x,y,z\n", rows("accelerometer", T, *A))
    with pytest.raises(Unreadable, match="no rows of gyro, only of accelerometer"):
        samples(path)


def kitti(folder: Path) -> tuple[Path, np.ndarray]:
    """A recording in KITTI's raw layout: its folder, and what it recorded at 10 Hz."""
    numbers = np.random.default_rng(3).normal(size=(60, 30))
    lines = [" ".join(f"{value:.9f}" for value in row) for row in numbers]
    for number, line in enumerate(lines):
        write(folder / "oxts" / "data" / f"{number:010}.txt", line, "\n")
    times = (datetime(2011, 9, 26, 13, 2, 25, 964_389) + timedelta(seconds=n / 10) for n in range(60))
    write(folder / "oxts" / "timestamps.txt", *(f"{time:%Y-%m-%d %H:%M:%S.%f}445\n" for time in times))
    write(folder / "oxts" / "dataformat.txt", "lat:   latitude of the oxts-unit (deg)\n")
    return folder / "oxts", np.concatenate([numbers[:, 11:14], numbers[:, 17:20]], axis=1).T


def test_kitti_is_one_recording_of_its_folder(tmp_path: Path, samples) -> None:
    oxts, motion = kitti(tmp_path)
    [file] = walk([tmp_path])
    assert isinstance(file, MediaFile)
    assert (file.path, file.companion, count(file)) == (oxts / "timestamps.txt", oxts / "data", 61)
    assert file.bytes == sum(path.stat().st_size for path in oxts.rglob("*") if path.name[0] in "0t")
    assert list(walk([oxts / "data"])) == list(walk([oxts / "data" / "0000000007.txt"])) == [file]
    assert identify(oxts / "dataformat.txt") == file
    [sample] = samples(file.path)
    assert sample.rate_hz == pytest.approx(10)
    np.testing.assert_allclose(sample.data, motion[:, :50], atol=1e-4)

    (oxts / "timestamps.txt").unlink()
    with pytest.raises(NotMedia, match=r"without its timestamps\.txt or its folder data"):
        identify(oxts / "data" / "0000000007.txt")


def test_kitti_tracking_is_a_line_every_tenth_of_a_second(tmp_path: Path, samples) -> None:
    oxts, motion = kitti(tmp_path / "raw")
    frames = sorted((oxts / "data").iterdir())
    path = write(tmp_path / "tracking" / "oxts" / "0000.txt", *(frame.read_text() for frame in frames))
    [sample] = samples(path)
    assert (sample.modality, sample.rate_hz) == (Modality.IMU, pytest.approx(10))
    np.testing.assert_allclose(sample.data, motion[:, :50], atol=1e-4)
